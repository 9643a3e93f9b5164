//! Converting between formats.

use std::ops::ControlFlow;
use std::path::Path;

use crate::element::Element;
use crate::error::DatasetError;
use crate::format::Location;
use crate::strided::{RawRows, Strided};
use crate::writer::VectorWriter;
use crate::{VectorFile, block_rows, open_at, open_strided};

/// Converts a file of vectors to the format that the extension of `output` tells, in blocks.
///
/// The values keep their type where the output can hold it; otherwise they are converted, and a
/// value that does not fit is an error. Integers (`ivecs`, `ibin`, `npy`) are copied as they are,
/// so ids survive. Returns the number of rows.
///
/// `progress` is called with the rows done and the rows in all; [`ControlFlow::Break`] stops the
/// conversion, which then leaves no file.
///
/// # Errors
/// [`DatasetError`] from either file, and [`DatasetError::Cancelled`].
pub fn convert(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<u64, DatasetError> {
    let output = output.as_ref();
    let input = Location::parse(input)?;
    let source = open_at(&input)?;
    let element = Location::parse(output)?.format.element().unwrap_or(source.element());
    let mut writer = VectorWriter::create(output, source.dim(), element)?;
    let rows = source.rows();
    let mut report = |done: usize| match progress(done as u64, rows as u64) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(DatasetError::Cancelled),
    };
    if source.element() == Element::I32 && element == Element::I32 && input.format.is_strided() {
        copy_encoded(&open_strided(&input)?.rows, &mut writer, &mut report)?;
    } else {
        copy_values(&*source, &mut writer, &mut report)?;
    }
    writer.finish()
}

/// Copies rows by way of `f32`.
fn copy_values(
    source: &dyn VectorFile,
    writer: &mut VectorWriter,
    report: &mut dyn FnMut(usize) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let (rows, dim) = (source.rows(), source.dim());
    let mut reader = source.reader()?;
    let mut block = vec![0.0; block_rows(dim).min(rows) * dim];
    let mut done = 0;
    while done < rows {
        let count = block_rows(dim).min(rows - done);
        let values = &mut block[..count * dim];
        reader.read(done, values)?;
        writer.write_rows(values)?;
        done += count;
        report(done)?;
    }
    Ok(())
}

/// Copies rows byte by byte: not every 32-bit integer is an `f32`.
fn copy_encoded(
    source: &Strided,
    writer: &mut VectorWriter,
    report: &mut dyn FnMut(usize) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let (mut window, mut bare) = (Vec::new(), Vec::new());
    let mut done = 0;
    while done < source.rows {
        let count = source.window_rows().min(source.rows - done);
        source.read(done, count, &mut window)?;
        bare.clear();
        for row in window.chunks_exact(source.stride()) {
            bare.extend_from_slice(&row[source.prefix()..]);
        }
        writer.write_encoded(&bare)?;
        done += count;
        report(done)?;
    }
    Ok(())
}

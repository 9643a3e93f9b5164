//! Formats, and how a path names one.

use std::path::{Path, PathBuf};

use crate::element::Element;
use crate::error::DatasetError;

/// A file format, recognised by its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `.fvecs`: for each row an `i32` dimension, then `f32` values.
    Fvecs,
    /// `.bvecs`: for each row an `i32` dimension, then bytes.
    Bvecs,
    /// `.ivecs`: for each row an `i32` dimension, then `i32` values.
    Ivecs,
    /// `.fbin`: `u32` rows, `u32` dimension, then `f32` values.
    Fbin,
    /// `.u8bin`: `u32` rows, `u32` dimension, then bytes.
    U8bin,
    /// `.i8bin`: `u32` rows, `u32` dimension, then signed bytes.
    I8bin,
    /// `.ibin`: `u32` rows, `u32` dimension, then `i32` values.
    Ibin,
    /// `.npy`: NumPy's format.
    Npy,
    /// `.hdf5`, `.h5`: the files of ann-benchmarks.
    Hdf5,
    /// `.parquet`: a column of lists.
    Parquet,
    /// `.arrow`, `.feather`, `.ipc`: an Arrow column of lists.
    Arrow,
}

/// The one list of extensions.
const EXTENSIONS: [(&str, Format); 14] = [
    ("fvecs", Format::Fvecs),
    ("bvecs", Format::Bvecs),
    ("ivecs", Format::Ivecs),
    ("fbin", Format::Fbin),
    ("u8bin", Format::U8bin),
    ("i8bin", Format::I8bin),
    ("ibin", Format::Ibin),
    ("npy", Format::Npy),
    ("hdf5", Format::Hdf5),
    ("h5", Format::Hdf5),
    ("parquet", Format::Parquet),
    ("arrow", Format::Arrow),
    ("feather", Format::Arrow),
    ("ipc", Format::Arrow),
];

impl Format {
    /// The format of a file with this extension; upper and lower case are alike.
    pub fn from_extension(extension: &str) -> Option<Format> {
        EXTENSIONS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(extension))
            .map(|&(_, format)| format)
    }

    /// The one type of value that the format holds, or `None` where the file says.
    pub fn element(self) -> Option<Element> {
        match self {
            Format::Fvecs | Format::Fbin => Some(Element::F32),
            Format::Bvecs | Format::U8bin => Some(Element::U8),
            Format::I8bin => Some(Element::I8),
            Format::Ivecs | Format::Ibin => Some(Element::I32),
            Format::Npy | Format::Hdf5 | Format::Parquet | Format::Arrow => None,
        }
    }

    /// True for formats whose rows lie one after the other at a fixed stride; the others hold
    /// several datasets or columns.
    pub(crate) fn is_strided(self) -> bool {
        !matches!(self, Format::Hdf5 | Format::Parquet | Format::Arrow)
    }

    /// The cargo feature that the format needs, or "" for those that are always there.
    pub(crate) fn feature(self) -> &'static str {
        match self {
            Format::Hdf5 => "hdf5",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
            _ => "",
        }
    }

    /// Every extension, for messages.
    pub(crate) fn extensions() -> String {
        let names: Vec<String> = EXTENSIONS.iter().map(|(name, _)| format!(".{name}")).collect();
        names.join(" ")
    }
}

/// A file, its format, and the dataset or column inside that a suffix `:NAME` picks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// The dataset (HDF5) or column (Parquet, Arrow) asked for.
    pub member: Option<String>,
}

impl Location {
    /// Splits a path such as `vectors.npy`, `glove.hdf5:test` or `shop.parquet:embedding`.
    ///
    /// # Errors
    /// [`DatasetError::UnknownExtension`].
    pub fn parse(path: impl AsRef<Path>) -> Result<Location, DatasetError> {
        let path = path.as_ref();
        let format_of = |path: &Path| {
            path.extension().and_then(|extension| Format::from_extension(extension.to_str()?))
        };
        if let Some(format) = format_of(path) {
            return Ok(Location { path: path.to_owned(), format, member: None });
        }
        if let Some((file, member)) = path.to_str().and_then(|text| text.rsplit_once(':'))
            && let Some(format) = format_of(Path::new(file))
            && !format.is_strided()
            && !member.is_empty()
        {
            let member = Some(member.to_owned());
            return Ok(Location { path: PathBuf::from(file), format, member });
        }
        Err(DatasetError::UnknownExtension { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_formats_and_members() {
        let parse = |text: &str| {
            Location::parse(text)
                .map(|l| (l.path.to_str().unwrap().to_owned(), l.format, l.member))
                .map_err(|error| error.to_string())
        };
        let plain = |path: &str, format| Ok((path.to_owned(), format, None));
        let member =
            |path: &str, format, m: &str| Ok((path.to_owned(), format, Some(m.to_owned())));
        assert_eq!(parse("a/b.fvecs"), plain("a/b.fvecs", Format::Fvecs));
        assert_eq!(parse("B.NPY"), plain("B.NPY", Format::Npy));
        assert_eq!(parse("x.h5"), plain("x.h5", Format::Hdf5));
        assert_eq!(parse("C:/x.hdf5"), plain("C:/x.hdf5", Format::Hdf5));
        assert_eq!(parse("x.hdf5:test"), member("x.hdf5", Format::Hdf5, "test"));
        assert_eq!(parse("x.hdf5:a/b.c"), member("x.hdf5", Format::Hdf5, "a/b.c"));
        assert_eq!(parse("C:/x.parquet:v"), member("C:/x.parquet", Format::Parquet, "v"));
        for wrong in ["x", "x.txt", "x.fvecs:a", "x.hdf5:", "x.txt:a", ""] {
            assert!(parse(wrong).unwrap_err().contains(".fvecs"), "{wrong}");
        }
    }
}

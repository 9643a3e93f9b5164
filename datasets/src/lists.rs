//! Columns of lists of numbers: what Parquet and Arrow IPC files have in common.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int8Type, Int32Type, UInt8Type};
use arrow_array::{Array, ArrayRef, FixedSizeListArray, PrimitiveArray, RecordBatch, make_array};
use arrow_buffer::{Buffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use nonius::{RowReader, SourceError, VectorSource};

use crate::VectorFile;
use crate::element::Element;
use crate::error::{DatasetError, check_dim};
use crate::guard::guarded;
use crate::strided::check_range;

/// The column that holds the vectors.
#[derive(Clone, Debug)]
pub(crate) struct ListColumn {
    /// Its number among the columns of the file.
    pub(crate) index: usize,
    pub(crate) element: Element,
    /// The length of the lists where the type says it.
    pub(crate) length: Option<usize>,
}

/// The element and the fixed length, if any, of a type that can hold vectors.
fn list_type(data_type: &DataType) -> Option<(Element, Option<i32>)> {
    let (field, length) = match data_type {
        DataType::FixedSizeList(field, length) => (field, Some(*length)),
        DataType::List(field) | DataType::LargeList(field) => (field, None),
        _ => return None,
    };
    let element = match field.data_type() {
        DataType::Float32 => Element::F32,
        DataType::Float16 => Element::F16,
        DataType::Float64 => Element::F64,
        DataType::UInt8 => Element::U8,
        DataType::Int8 => Element::I8,
        DataType::Int32 => Element::I32,
        _ => return None,
    };
    Some((element, length))
}

impl ListColumn {
    /// Finds the column asked for, or the only one that can hold vectors.
    pub(crate) fn choose(
        path: &Path,
        schema: &Schema,
        wanted: Option<&str>,
    ) -> Result<ListColumn, DatasetError> {
        let fields = schema.fields();
        let lists: Vec<usize> =
            (0..fields.len()).filter(|&i| list_type(fields[i].data_type()).is_some()).collect();
        let names = |indices: &[usize]| indices.iter().map(|&i| fields[i].name().clone()).collect();
        let member = |problem: String, available: Vec<String>| DatasetError::Member {
            path: path.to_owned(),
            problem,
            available,
        };
        let index = match wanted {
            Some(name) => {
                fields.iter().position(|field| field.name() == name).ok_or_else(|| {
                    member(
                        format!("no column {name:?}"),
                        names(&(0..fields.len()).collect::<Vec<_>>()),
                    )
                })?
            }
            None => match lists[..] {
                [index] => index,
                [] => {
                    let all: Vec<usize> = (0..fields.len()).collect();
                    return Err(member("no column is a list of numbers".to_owned(), names(&all)));
                }
                _ => {
                    let problem = "several columns are lists of numbers; name one as FILE:COLUMN";
                    return Err(member(problem.to_owned(), names(&lists)));
                }
            },
        };
        let (element, length) = list_type(fields[index].data_type()).ok_or_else(|| {
            DatasetError::unsupported(
                path,
                "a column of lists of f16, f32, f64, u8, i8 or i32",
                format!("column {:?} of {}", fields[index].name(), fields[index].data_type()),
            )
        })?;
        let length = match length {
            None => None,
            Some(length) => Some(check_dim(path, u64::try_from(length).unwrap_or(0))?),
        };
        Ok(ListColumn { index, element, length })
    }
}

/// A file that yields a column in batches.
pub(crate) trait Batched: Send + Sync {
    /// The file.
    fn path(&self) -> &Path;

    /// Starts a pass; batches should have about `rows` rows where there is a choice.
    fn batches(&self, rows: usize) -> Result<Box<dyn Batches + '_>, DatasetError>;
}

/// A pass over the batches of a column.
pub(crate) trait Batches {
    /// Moves forward, if that is cheap, so that the next batch is nearer to `row`. `next` is the
    /// number of the row that the next batch starts with; the answer is that number afterwards,
    /// at most `row`.
    fn skip_to(&mut self, next: usize, row: usize) -> Result<usize, DatasetError>;

    /// The next batch, or `None` at the end.
    fn next(&mut self) -> Result<Option<ArrayRef>, DatasetError>;
}

/// A column of lists as a file of vectors.
pub(crate) struct ListFile<B> {
    batched: B,
    element: Element,
    rows: usize,
    dim: usize,
}

impl<B: Batched> ListFile<B> {
    /// A file of `rows` rows. Where the type does not fix their length, the first row does.
    pub(crate) fn new(
        batched: B,
        column: &ListColumn,
        rows: usize,
    ) -> Result<ListFile<B>, DatasetError> {
        let dim = match column.length {
            Some(length) => length,
            None => first_length(&batched)?,
        };
        Ok(ListFile { batched, element: column.element, rows, dim })
    }
}

fn first_length(batched: &impl Batched) -> Result<usize, DatasetError> {
    let path = batched.path();
    guarded(path, || {
        let mut batches = batched.batches(1)?;
        while let Some(array) = batches.next()? {
            if array.is_empty() {
                continue;
            }
            if array.is_null(0) {
                return Err(DatasetError::Null { path: path.to_owned(), row: 0, column: None });
            }
            return check_dim(path, row_range(&*array, 0).len() as u64);
        }
        let expected = "at least one row, which tells the dimension";
        Err(DatasetError::header(path, expected, "none"))
    })
}

/// Where the values of a row lie among those of its batch.
fn row_range(array: &dyn Array, row: usize) -> Range<usize> {
    // Offsets were checked by the decoder to ascend from 0 and to lie within the values.
    match array.data_type() {
        DataType::FixedSizeList(..) => {
            let list = array.as_fixed_size_list();
            let start = list.value_offset_at(row);
            start..start + list.value_length() as usize
        }
        DataType::LargeList(_) => {
            let offsets = array.as_list::<i64>().value_offsets();
            offsets[row] as usize..offsets[row + 1] as usize
        }
        _ => {
            let offsets = array.as_list::<i32>().value_offsets();
            offsets[row] as usize..offsets[row + 1] as usize
        }
    }
}

fn list_values(array: &dyn Array) -> ArrayRef {
    match array.data_type() {
        DataType::FixedSizeList(..) => array.as_fixed_size_list().values().clone(),
        DataType::LargeList(_) => array.as_list::<i64>().values().clone(),
        _ => array.as_list::<i32>().values().clone(),
    }
}

/// The bytes of an array of numbers; little-endian, as the targets of this crate are.
fn value_bytes(values: &dyn Array, element: Element) -> &[u8] {
    match element {
        Element::F32 => values.as_primitive::<Float32Type>().values().inner(),
        Element::F16 => values.as_primitive::<Float16Type>().values().inner(),
        Element::F64 => values.as_primitive::<Float64Type>().values().inner(),
        Element::U8 => values.as_primitive::<UInt8Type>().values().inner(),
        Element::I8 => values.as_primitive::<Int8Type>().values().inner(),
        Element::I32 => values.as_primitive::<Int32Type>().values().inner(),
    }
}

impl<B: Batched> VectorFile for ListFile<B> {
    fn path(&self) -> &Path {
        self.batched.path()
    }

    fn element(&self) -> Element {
        self.element
    }
}

impl<B: Batched> VectorSource for ListFile<B> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn reader(&self) -> Result<Box<dyn RowReader + '_>, SourceError> {
        let batches = self.batched.batches(crate::block_rows(self.dim).min(4096))?;
        Ok(Box::new(ListReader { file: self, batches, array: None, first: 0, end: 0 }))
    }
}

struct ListReader<'a, B> {
    file: &'a ListFile<B>,
    batches: Box<dyn Batches + 'a>,
    /// The batch with rows `first .. end`.
    array: Option<ArrayRef>,
    first: usize,
    end: usize,
}

impl<B: Batched> RowReader for ListReader<'_, B> {
    fn read(&mut self, start: usize, out: &mut [f32]) -> Result<(), SourceError> {
        let (rows, dim) = (self.file.rows, self.file.dim);
        check_range(rows, dim, start, out.len())?;
        let path = self.file.batched.path();
        guarded(path, || {
            let mut row = start;
            let mut rest = out;
            while !rest.is_empty() {
                if row >= self.end {
                    self.first = self.batches.skip_to(self.end, row)?;
                    self.end = self.first;
                    let Some(array) = self.batches.next()? else {
                        let message = format!("{rows} rows announced, {} found", self.first);
                        return Err(DatasetError::corrupt(path, message));
                    };
                    self.end = self.first + array.len();
                    self.array = Some(array);
                    continue;
                }
                let Some(array) = self.array.as_ref().filter(|_| row >= self.first) else {
                    return Err(DatasetError::corrupt(path, "a reader cannot go backwards"));
                };
                let count = (rest.len() / dim).min(self.end - row);
                let (now, later) = rest.split_at_mut(count * dim);
                self.file.copy(&**array, row - self.first, row, now)?;
                row += count;
                rest = later;
            }
            Ok(())
        })?;
        Ok(())
    }
}

impl<B: Batched> ListFile<B> {
    /// Copies the rows from number `offset` of a batch on, which are those from `row` on of the
    /// file.
    fn copy(
        &self,
        array: &dyn Array,
        offset: usize,
        row: usize,
        out: &mut [f32],
    ) -> Result<(), DatasetError> {
        let path = self.batched.path();
        let dim = self.dim;
        let values = list_values(array);
        let bytes = value_bytes(&*values, self.element);
        let size = self.element.bytes();
        for (i, out) in out.chunks_exact_mut(dim).enumerate() {
            let (path_of, row) = (|| path.to_owned(), row + i);
            if array.is_null(offset + i) {
                return Err(DatasetError::Null { path: path_of(), row, column: None });
            }
            let range = row_range(array, offset + i);
            if range.len() != dim {
                let (expected, found) = (dim, range.len() as i64);
                return Err(DatasetError::Ragged { path: path_of(), row, expected, found });
            }
            if values.null_count() > 0
                && let Some(column) = (0..dim).find(|&column| values.is_null(range.start + column))
            {
                return Err(DatasetError::Null { path: path_of(), row, column: Some(column) });
            }
            self.element
                .decode(&bytes[range.start * size..range.end * size], out)
                .map_err(|bad| bad.at(path, row, dim))?;
        }
        Ok(())
    }
}

/// The schema of the files that are written: one column of lists of fixed size.
pub(crate) fn written_schema(name: Option<&str>, element: Element, dim: usize) -> SchemaRef {
    let values = match element {
        Element::F32 => DataType::Float32,
        Element::F16 => DataType::Float16,
        Element::F64 => DataType::Float64,
        Element::U8 => DataType::UInt8,
        Element::I8 => DataType::Int8,
        Element::I32 => DataType::Int32,
    };
    // Dimensions are at most 65,536.
    let list = DataType::FixedSizeList(Arc::new(Field::new("item", values, false)), dim as i32);
    Arc::new(Schema::new(vec![Field::new(name.unwrap_or("vector"), list, false)]))
}

/// Makes a batch of encoded rows.
pub(crate) fn written_batch(
    path: &Path,
    schema: &SchemaRef,
    element: Element,
    dim: usize,
    bytes: &[u8],
) -> Result<RecordBatch, DatasetError> {
    let count = bytes.len() / element.bytes();
    // Copied into memory that is aligned for every type.
    let buffer = Buffer::from_slice_ref(bytes);
    macro_rules! primitive {
        ($type:ty) => {
            Arc::new(PrimitiveArray::<$type>::new(ScalarBuffer::new(buffer, 0, count), None))
        };
    }
    let values: ArrayRef = match element {
        Element::F32 => primitive!(Float32Type),
        Element::F16 => primitive!(Float16Type),
        Element::F64 => primitive!(Float64Type),
        Element::U8 => primitive!(UInt8Type),
        Element::I8 => primitive!(Int8Type),
        Element::I32 => primitive!(Int32Type),
    };
    let list = match schema.field(0).data_type() {
        DataType::FixedSizeList(field, _) => {
            FixedSizeListArray::try_new(field.clone(), dim as i32, values, None)
        }
        // Only written_schema makes schemas.
        _ => return Err(DatasetError::corrupt(path, "not a list")),
    };
    list.and_then(|list| RecordBatch::try_new(schema.clone(), vec![make_array(list.into_data())]))
        .map_err(|error| DatasetError::corrupt(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, ListBuilder};

    /// A column in memory, in batches of the sizes given.
    struct Memory(Vec<ArrayRef>);

    impl Batched for Memory {
        fn path(&self) -> &Path {
            Path::new("memory")
        }

        fn batches(&self, _rows: usize) -> Result<Box<dyn Batches + '_>, DatasetError> {
            Ok(Box::new(MemoryBatches(self.0.clone().into_iter())))
        }
    }

    struct MemoryBatches(std::vec::IntoIter<ArrayRef>);

    impl Batches for MemoryBatches {
        fn skip_to(&mut self, next: usize, _row: usize) -> Result<usize, DatasetError> {
            Ok(next)
        }

        fn next(&mut self) -> Result<Option<ArrayRef>, DatasetError> {
            Ok(self.0.next())
        }
    }

    type Row<'a> = Option<&'a [Option<f32>]>;

    fn lists(rows: &[Row<'_>]) -> ArrayRef {
        let mut builder = ListBuilder::new(Float32Builder::new());
        for row in rows {
            for &value in row.unwrap_or_default() {
                builder.values().append_option(value);
            }
            builder.append(row.is_some());
        }
        Arc::new(builder.finish())
    }

    fn file(batches: Vec<ArrayRef>, rows: usize) -> Result<ListFile<Memory>, DatasetError> {
        let column = ListColumn { index: 0, element: Element::F32, length: None };
        ListFile::new(Memory(batches), &column, rows)
    }

    fn error(batches: Vec<ArrayRef>, rows: usize) -> DatasetError {
        file(batches, rows).and_then(|file| crate::read_matrix(&file)).unwrap_err()
    }

    const ROW: Row<'static> = Some(&[Some(1.0), Some(2.0)]);

    #[test]
    fn rows_of_different_lengths_are_named() {
        for bad in [&[Some(1.0)][..], &[], &[Some(1.0); 3]] {
            let found = error(vec![lists(&[ROW, ROW]), lists(&[ROW, Some(bad)])], 4);
            let length = bad.len() as i64;
            assert!(
                matches!(found, DatasetError::Ragged { row: 3, expected: 2, found, .. } if found == length),
                "{found}"
            );
        }
    }

    #[test]
    fn missing_rows_and_values_are_named() {
        let found = error(vec![lists(&[ROW, None])], 2);
        assert!(matches!(found, DatasetError::Null { row: 1, column: None, .. }), "{found}");
        let found = error(vec![lists(&[None, ROW])], 2);
        assert!(matches!(found, DatasetError::Null { row: 0, column: None, .. }), "{found}");
        let found = error(vec![lists(&[ROW]), lists(&[Some(&[Some(1.0), None])])], 2);
        assert!(matches!(found, DatasetError::Null { row: 1, column: Some(1), .. }), "{found}");
        assert_eq!(found.to_string(), "memory: row 1, column 1 is null");
        let bad: Row = Some(&[Some(f32::NAN), Some(0.0)]);
        let found = error(vec![lists(&[ROW]), lists(&[ROW, bad])], 3);
        assert!(matches!(found, DatasetError::NonFinite { row: 2, column: 0, .. }), "{found}");
    }

    #[test]
    fn batches_may_be_empty_sliced_or_too_few() {
        let batch = lists(&[None, ROW, Some(&[Some(3.0), Some(4.0)])]).slice(1, 2);
        let none = lists(&[]);
        let set = file(vec![none.clone(), batch, none.clone()], 2).unwrap();
        assert_eq!(crate::read_matrix(&set).unwrap().data(), [1.0, 2.0, 3.0, 4.0]);
        let found = error(vec![lists(&[ROW])], 2);
        assert!(found.to_string().contains("2 rows announced, 1 found"), "{found}");
        assert!(error(vec![none], 0).to_string().contains("at least one row"));
        assert!(matches!(error(vec![lists(&[Some(&[])])], 1), DatasetError::Dim { found: 0, .. }));

        let mut builder = FixedSizeListBuilder::new(Float32Builder::new(), 2);
        for i in 0..4 {
            builder.values().append_slice(&[i as f32, 0.5]);
            builder.append(true);
        }
        let fixed: ArrayRef = Arc::new(builder.finish());
        let column = ListColumn { index: 0, element: Element::F32, length: Some(2) };
        let set = ListFile::new(Memory(vec![fixed.slice(2, 2)]), &column, 2).unwrap();
        assert_eq!(crate::read_matrix(&set).unwrap().data(), [2.0, 0.5, 3.0, 0.5]);
    }

    #[test]
    fn readers_do_not_go_backwards() {
        let set = file(vec![lists(&[ROW]), lists(&[ROW])], 2).unwrap();
        let mut reader = set.reader().unwrap();
        reader.read(1, &mut [0.0; 2]).unwrap();
        assert!(reader.read(0, &mut [0.0; 2]).is_err());
    }
}

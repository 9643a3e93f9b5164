//! Index files: opened, verified, described and searched.

use nonius::{Index, OpenError};
use nonius_tests::damage::reseal;
use nonius_tests::file::samples;
use nonius_tests::probe::{reason, refusal, search_checked, search_in_every_way};

use super::{Memory, Target};
use crate::{mutate, note};

/// See [`run`].
pub const TARGET: Target = Target {
    name: "index",
    about: "an index file: opening, verifying, searching",
    run,
    seeds: || samples().into_iter().map(|(_, bytes)| bytes).collect(),
    mutate: mutate::index_file,
    // The copy of the file, one more where it is resealed, and what is unpacked of it.
    memory: Memory { times: 3, bytes: 256 << 10 },
};

/// Opens the bytes as an index and does all with it. Bytes that fail for a checksum get the right
/// ones and a second chance: a fuzzer that knows nothing of checksums would not pass them.
pub fn run(data: &[u8]) {
    if let Err(OpenError::Checksum { .. }) = open(data) {
        let mut sealed = data.to_vec();
        reseal(&mut sealed);
        let _ = open(&sealed);
    }
}

fn open(data: &[u8]) -> Result<(), OpenError> {
    let index = match Index::from_bytes(data) {
        Ok(index) => index,
        Err(error) => {
            note(reason(&refusal(&error)));
            return Err(error);
        }
    };
    let info = index.info();
    note(format_args!("{} {} {}", info.quantizer.name(), info.metric, info.keep));
    if let Err(error) = index.verify() {
        note(format_args!("verify: {}", reason(&refusal(&error))));
    }
    let scalar = data.len().is_multiple_of(3);
    search_in_every_way(&index, scalar);
    drop(index);
    search_checked(data);
    Ok(())
}

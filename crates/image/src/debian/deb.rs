//! A `.deb`: an `ar` archive of two tar archives, of which the second holds the files.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::beneath::Root;
use crate::unpack::{self, Options};

const MAGIC: &[u8] = b"!<arch>\n";
const HEADER_BYTES: usize = 60;

/// Unpacks the package's files beneath the root.
pub(crate) fn extract(path: &Path, root: &mut Root, options: &Options<'_>) -> io::Result<()> {
    let mut file = File::open(path)?;
    let size = find_data(&mut file)?;
    unpack::unpack(unpack::decoder(file.take(size))?, root, options)
}

/// Leaves the file at the beginning of `data.tar.*`; returns that member's size.
fn find_data(file: &mut (impl Read + Seek)) -> io::Result<u64> {
    let bad = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_string());
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(bad("not a Debian package"));
    }
    loop {
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header).map_err(|_| bad("the package has no files in it"))?;
        let field =
            |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim().to_string();
        let size: u64 = field(48..58).parse().map_err(|_| bad("the package has a damaged header"))?;
        if field(0..16).starts_with("data.tar") {
            return Ok(size);
        }
        file.seek(SeekFrom::Current((size + size % 2) as i64))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_skipped_to_the_data() {
        let mut bytes = MAGIC.to_vec();
        for (name, content) in
            [("debian-binary", "2.0"), ("control.tar.xz/", "ctl1"), ("data.tar.xz", "files")]
        {
            bytes.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, content.len()).bytes(),
            );
            bytes.extend(content.bytes());
            bytes.extend(vec![b'\n'; content.len() % 2]);
        }
        let mut file = io::Cursor::new(bytes);
        assert_eq!(find_data(&mut file).unwrap(), 5);
        let mut rest = String::new();
        file.take(5).read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "files");
        assert!(find_data(&mut io::Cursor::new(b"!<arch>\n".to_vec())).is_err());
    }
}

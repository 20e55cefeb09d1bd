//! A trace as one string of bytes: of each file the length of its name, the name, its length in four
//! bytes, its contents.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

/// Files of one trace.
const FILES: usize = 64;

/// Writes the files below `trace`. What is left of the bytes is too little for a file, or its name
/// leads out of the folder: the rest is left out.
pub fn unpack(mut bytes: &[u8], trace: &Path) -> io::Result<()> {
    fs::create_dir(trace)?;
    for _ in 0..FILES {
        let Some((name, contents, rest)) = next(bytes) else {
            break;
        };
        let path = trace.join(Path::new(name).components().collect::<PathBuf>());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        if !path.is_dir() {
            fs::write(path, contents)?;
        }
        bytes = rest;
    }
    Ok(())
}

/// The next file: name, contents, what follows.
fn next(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let (length, bytes) = bytes.split_first()?;
    let (name, bytes) = bytes.split_at_checked(usize::from(*length))?;
    let (length, bytes) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (contents, rest) = bytes.split_at(length.min(bytes.len()));
    let name = str::from_utf8(name).ok()?;
    // Two levels, as traces have them: a file never takes the place of a folder.
    let parts: Vec<_> = Path::new(name).components().collect();
    let names = |part: &Component<'_>| matches!(part, Component::Normal(_));
    let (is_top, is_segment) = (name.contains('.'), name.ends_with(".parquet"));
    let fits = match parts.len() {
        1 => is_top,
        2 => is_segment && !name.split('/').next()?.contains('.'),
        _ => false,
    };
    let is_plain = !name.contains('\0') && !name.ends_with('/') && parts.iter().all(names);
    (fits && is_plain).then_some((name, contents, rest))
}

/// The ordinary files of a trace, the metadata and the list first.
pub fn pack(trace: &Path) -> io::Result<Vec<u8>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(trace)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type()?.is_dir() {
            names.push(name);
            continue;
        }
        for segment in fs::read_dir(entry.path())? {
            let segment = segment?.file_name();
            names.push(format!("{name}/{}", segment.to_string_lossy()));
        }
    }
    names.sort_by_key(|name| (name.contains('/'), name.clone()));
    let mut bytes = Vec::new();
    for name in names {
        let path = trace.join(&name);
        // Damage may have made a link or a folder of it.
        if !path.symlink_metadata()?.is_file() {
            continue;
        }
        let contents = fs::read(path)?;
        let (Ok(name_length), Ok(length)) =
            (u8::try_from(name.len()), u32::try_from(contents.len()))
        else {
            continue;
        };
        bytes.push(name_length);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&contents);
    }
    Ok(bytes)
}

//! What is heard from the lab. The lab runs a kernel and a guest that are not trusted: any bytes
//! give a result or an error, and nothing is written outside of the folder given.

use std::{
    io::{self, BufRead, Read as _, Write},
    path::Path,
};

use super::job::{HEARD, MESSAGE_BYTES, Message, Stage, Trouble, WHOLE};

/// Why what was heard makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// The stream broke, or what came could not be passed on.
    #[error("while listening to the lab")]
    Io(#[from] io::Error),
    /// Not from our init.
    #[error("the lab said something that is no message: {text}")]
    Message {
        /// The beginning of it.
        text: String,
    },
    /// The results came without anybody having asked for them.
    #[error("the lab sent results, but none were asked for")]
    Unasked,
    /// The archive.
    #[error("while unpacking what the lab sent")]
    Archive(#[source] io::Error),
    /// Something in the archive that has no place in it.
    #[error("the lab's archive has {what} at {path:?}")]
    Entry {
        /// What it is.
        what: &'static str,
        /// Its name.
        path: String,
    },
}

/// Who wants to know while it happens.
pub trait Listener {
    /// Another stage begins.
    fn stage(&mut self, stage: Stage);
    /// The command's standard output.
    fn stdout(&mut self, text: &str) -> io::Result<()>;
    /// The command's standard error.
    fn stderr(&mut self, text: &str) -> io::Result<()>;
}

/// What was heard up to the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The stage in which it ended.
    pub stage: Stage,
    /// The command's exit code.
    pub ended: Option<u8>,
    /// Why the lab gave up.
    pub failed: Option<Trouble>,
    /// All that it had to send came, which may be nothing.
    pub whole: bool,
}

/// Listens until the lab is silent; results, of at most `longest` bytes, go to the folder. The lab is
/// told when all was heard.
pub fn listen(
    mut from: impl BufRead,
    mut answer: impl Write,
    to: &mut impl Listener,
    results: Option<&Path>,
    longest: u64,
) -> Result<Heard, ConversationError> {
    let mut heard = Heard {
        stage: Stage::Boot,
        ended: None,
        failed: None,
        whole: false,
    };
    while let Some(message) = next(&mut from)? {
        match message {
            Message::Stage(stage) => {
                heard.stage = stage;
                to.stage(stage);
            }
            Message::Stdout(text) => to.stdout(&text)?,
            Message::Stderr(text) => to.stderr(&text)?,
            Message::Ended(code) => heard.ended = Some(code),
            Message::Failed(trouble) => {
                heard.failed = Some(trouble);
                break;
            }
            Message::NoResults => {
                heard.whole = true;
                break;
            }
            Message::Results => {
                let results = results.ok_or(ConversationError::Unasked)?;
                heard.whole = unpack((&mut from).take(longest), results)?;
                break;
            }
        }
    }
    // If the lab is silent because its machine is off, there is nobody to be told.
    let _ = answer.write_all(&[HEARD]);
    io::copy(&mut from, &mut io::sink())?;
    Ok(heard)
}

/// The next message; nothing at the end of the stream.
fn next(from: &mut impl BufRead) -> Result<Option<Message>, ConversationError> {
    let mut line = Vec::new();
    from.by_ref()
        .take(MESSAGE_BYTES)
        .read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let message = serde_json::from_slice(&line).map_err(|_| ConversationError::Message {
        text: String::from_utf8_lossy(&line).chars().take(80).collect(),
    })?;
    Ok(Some(message))
}

/// Whether the archive came to its own last entry: where it was cut, tar sees a shorter one.
fn unpack(from: impl io::Read, folder: &Path) -> Result<bool, ConversationError> {
    let mut whole = false;
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries().map_err(ConversationError::Archive)? {
        let mut entry = entry.map_err(ConversationError::Archive)?;
        let refused = |what, entry: &tar::Entry<'_, _>| ConversationError::Entry {
            what,
            path: String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
        };
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Directory => {}
            // A link could lead the next entry out of the folder.
            _ => return Err(refused("something other than a file or a folder", &entry)),
        }
        whole = &*entry.path_bytes() == WHOLE.as_bytes();
        if whole {
            continue;
        }
        if !entry
            .unpack_in(folder)
            .map_err(ConversationError::Archive)?
        {
            return Err(refused("a path that leads outside", &entry));
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONGEST: u64 = 1 << 20;

    #[derive(Default)]
    struct Said(String);

    impl Listener for Said {
        fn stage(&mut self, stage: Stage) {
            self.0 += &format!("[{stage:?}]");
        }
        fn stdout(&mut self, text: &str) -> io::Result<()> {
            self.0 += text;
            Ok(())
        }
        fn stderr(&mut self, text: &str) -> io::Result<()> {
            self.0 += &format!("({text})");
            Ok(())
        }
    }

    fn stream(messages: &[Message]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            serde_json::to_writer(&mut bytes, message).expect("a message");
            bytes.push(b'\n');
        }
        bytes
    }

    fn archive(name: &str, kind: tar::EntryType) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        // Written raw: the builder itself refuses such names.
        header.as_gnu_mut().expect("gnu").name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o600);
        header.set_size(3);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder
            .append(&header, b"abc".as_slice())
            .expect("an entry");
        builder.into_inner().expect("an archive")
    }

    #[test]
    fn everything_is_passed_on_in_order() {
        let mut bytes = stream(&[
            Message::Stage(Stage::Command),
            Message::Stdout("out\n".to_owned()),
            Message::Stderr("err".to_owned()),
            Message::Ended(3),
            Message::Results,
        ]);
        bytes.extend(archive("output/x", tar::EntryType::Regular));
        let folder = tempfile::tempdir().expect("a folder");
        let mut said = Said::default();
        let mut answer = Vec::new();
        let heard = listen(
            bytes.as_slice(),
            &mut answer,
            &mut said,
            Some(folder.path()),
            LONGEST,
        );
        let heard = heard.expect("sense");
        assert_eq!(answer, [HEARD]);
        assert_eq!(said.0, "[Command]out\n(err)");
        assert_eq!((heard.stage, heard.ended), (Stage::Command, Some(3)));
        assert!(!heard.whole, "its last entry is missing");
        let file = std::fs::read(folder.path().join("output/x")).expect("unpacked");
        assert_eq!(file, b"abc");
    }

    #[test]
    fn only_the_last_entry_makes_an_archive_whole() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        archive
            .append_data(&mut header, "output", b"abc".as_slice())
            .expect("an entry");
        header.set_size(0);
        archive
            .append_data(&mut header, WHOLE, io::empty())
            .expect("an entry");
        let mut bytes = stream(&[Message::Results]);
        bytes.extend(archive.into_inner().expect("an archive"));
        let whole = |longest| {
            let folder = tempfile::tempdir().expect("a folder");
            let (mut said, to) = (Said::default(), Some(folder.path()));
            listen(bytes.as_slice(), io::sink(), &mut said, to, longest).map(|heard| heard.whole)
        };
        assert!(whole(LONGEST).expect("sense"));
        // Cut behind the first entry, and within it.
        assert!(!whole(1024).expect("sense"));
        assert!(whole(514).is_err());
    }

    #[test]
    fn an_archive_stays_in_its_folder() {
        let cases = [
            ("../x", tar::EntryType::Regular, "outside"),
            ("a/../../x", tar::EntryType::Regular, "outside"),
            ("x", tar::EntryType::Symlink, "other than"),
            ("x", tar::EntryType::Char, "other than"),
        ];
        for (name, kind, word) in cases {
            let root = tempfile::tempdir().expect("a folder");
            let folder = root.path().join("in");
            std::fs::create_dir(&folder).expect("a folder");
            let mut bytes = stream(&[Message::Results]);
            bytes.extend(archive(name, kind));
            let error = listen(
                bytes.as_slice(),
                io::sink(),
                &mut Said::default(),
                Some(&folder),
                LONGEST,
            )
            .expect_err("refused");
            assert!(error.to_string().contains(word), "{name}: {error}");
            assert!(!root.path().join("x").exists(), "{name}");
        }
        let bytes = stream(&[Message::Results]);
        assert!(
            listen(
                bytes.as_slice(),
                io::sink(),
                &mut Said::default(),
                None,
                LONGEST
            )
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..2000), results: bool) {
            let folder = tempfile::tempdir().expect("a folder");
            let mut stream = if results { stream(&[Message::Results]) } else { Vec::new() };
            stream.extend(bytes);
            // An error or a result: both are fine, a panic is not.
            let _ = listen(stream.as_slice(), io::sink(), &mut Said::default(), Some(folder.path()), LONGEST);
        }
    }
}

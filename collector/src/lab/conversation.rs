//! Receives the lab's messages. The lab's kernel and guest are not trusted: any bytes give a result
//! or an error, and nothing is written outside the given directory.

use std::{
    io::{self, BufRead, Read as _, Write},
    path::Path,
};

use super::job::{ACKNOWLEDGED, MESSAGE_BYTES, Message, Stage, Trouble, WHOLE};

/// Why the lab's messages could not be received.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// The stream failed, or the command's output could not be printed.
    #[error("while listening to the lab")]
    Io(#[from] io::Error),
    /// Not a message of the lab's init.
    #[error("the lab sent something that is not a message: {text}")]
    Message {
        /// Its beginning.
        text: String,
    },
    /// Results that were not asked for.
    #[error("the lab sent results, but none were asked for")]
    Unasked,
    /// The archive.
    #[error("while unpacking what the lab sent")]
    Archive(#[source] io::Error),
    /// An entry of the archive that must not be in it.
    #[error("the lab's archive has {what} at {path:?}")]
    Entry {
        /// What it is.
        what: &'static str,
        /// Its name.
        path: String,
    },
}

/// Gets the messages as they arrive.
pub trait Listener {
    /// A stage begins.
    fn stage(&mut self, stage: Stage);
    /// The command's standard output.
    fn stdout(&mut self, text: &str) -> io::Result<()>;
    /// The command's standard error.
    fn stderr(&mut self, text: &str) -> io::Result<()>;
}

/// The messages, summed up.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    /// The last stage.
    pub stage: Stage,
    /// The command's exit code.
    pub ended: Option<u8>,
    /// Why the lab failed.
    pub failed: Option<Trouble>,
    /// Everything that it had to send has arrived; that may be nothing.
    pub whole: bool,
}

impl Heard {
    /// Nothing but the stages until this one.
    pub fn until(stage: Stage) -> Self {
        Self {
            stage,
            ended: None,
            failed: None,
            whole: false,
        }
    }
}

/// Receives messages until the stream ends. Results, of at most `longest` bytes, are unpacked to
/// the directory `results`. The last message is acknowledged.
pub fn listen(
    mut from: impl BufRead,
    mut answer: impl Write,
    to: &mut impl Listener,
    results: Option<&Path>,
    longest: u64,
) -> Result<Heard, ConversationError> {
    let mut heard = Heard::until(Stage::Boot);
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
    // It fails only if the machine is off.
    let _ = answer.write_all(&[ACKNOWLEDGED]);
    io::copy(&mut from, &mut io::sink())?;
    Ok(heard)
}

/// The next message; `None` at the end of the stream.
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

/// Whether the archive is complete: tar takes one that was cut between two entries for a whole one.
fn unpack(from: impl io::Read, directory: &Path) -> Result<bool, ConversationError> {
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
            // A link could lead the next entry out of the directory.
            _ => {
                return Err(refused(
                    "something other than a file or a directory",
                    &entry,
                ));
            }
        }
        whole = &*entry.path_bytes() == WHOLE.as_bytes();
        if whole {
            continue;
        }
        if !entry
            .unpack_in(directory)
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
    struct Printed(String);

    impl Listener for Printed {
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
    fn messages_arrive_in_order() {
        let mut bytes = stream(&[
            Message::Stage(Stage::Command),
            Message::Stdout("out\n".to_owned()),
            Message::Stderr("err".to_owned()),
            Message::Ended(3),
            Message::Results,
        ]);
        bytes.extend(archive("output/x", tar::EntryType::Regular));
        let directory = tempfile::tempdir().expect("a directory");
        let mut printed = Printed::default();
        let mut answer = Vec::new();
        let heard = listen(
            bytes.as_slice(),
            &mut answer,
            &mut printed,
            Some(directory.path()),
            LONGEST,
        );
        let heard = heard.expect("well-formed");
        assert_eq!(answer, [ACKNOWLEDGED]);
        assert_eq!(printed.0, "[Command]out\n(err)");
        assert_eq!((heard.stage, heard.ended), (Stage::Command, Some(3)));
        assert!(!heard.whole, "its last entry is missing");
        let file = std::fs::read(directory.path().join("output/x")).expect("unpacked");
        assert_eq!(file, b"abc");
    }

    #[test]
    fn an_archive_without_its_last_entry_is_incomplete() {
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
            let directory = tempfile::tempdir().expect("a directory");
            let (mut printed, to) = (Printed::default(), Some(directory.path()));
            listen(bytes.as_slice(), io::sink(), &mut printed, to, longest).map(|heard| heard.whole)
        };
        assert!(whole(LONGEST).expect("well-formed"));
        // Cut after the first entry, and within it.
        assert!(!whole(1024).expect("well-formed"));
        assert!(whole(514).is_err());
    }

    #[test]
    fn an_archive_cannot_leave_its_directory() {
        let cases = [
            ("../x", tar::EntryType::Regular, "outside"),
            ("a/../../x", tar::EntryType::Regular, "outside"),
            ("x", tar::EntryType::Symlink, "other than"),
            ("x", tar::EntryType::Char, "other than"),
        ];
        for (name, kind, word) in cases {
            let root = tempfile::tempdir().expect("a directory");
            let directory = root.path().join("in");
            std::fs::create_dir(&directory).expect("a directory");
            let mut bytes = stream(&[Message::Results]);
            bytes.extend(archive(name, kind));
            let error = listen(
                bytes.as_slice(),
                io::sink(),
                &mut Printed::default(),
                Some(&directory),
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
                &mut Printed::default(),
                None,
                LONGEST
            )
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_result_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            results: bool,
        ) {
            let directory = tempfile::tempdir().expect("a directory");
            let to = Some(directory.path());
            let mut stream = if results { stream(&[Message::Results]) } else { Vec::new() };
            stream.extend(bytes);
            // An error or a result: both are fine, a panic is not.
            let _ = listen(stream.as_slice(), io::sink(), &mut Printed::default(), to, LONGEST);
        }
    }
}

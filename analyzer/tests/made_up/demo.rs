//! A made-up trace in a folder of its own.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use maker::{Maker, Shape, Vms};

use crate::support::analyzer;

/// A folder that is removed at the end, with `demo.trace` in it.
pub struct Demo(pub tempfile::TempDir);

impl Demo {
    pub fn new(shape: Shape) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Maker::new(shape)
            .write(&folder.path().join("demo.trace"))
            .unwrap();
        Self(folder)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("demo.trace").join(name)
    }

    /// The file of the last segment.
    pub fn last_segment(&self) -> PathBuf {
        let list = std::fs::read_to_string(self.file("segments.jsonl")).unwrap();
        let last: serde_json::Value = serde_json::from_str(list.lines().last().unwrap()).unwrap();
        let kind = last["kind"].as_str().unwrap();
        self.file(&format!(
            "{kind}/{:06}.parquet",
            last["segment"].as_u64().unwrap()
        ))
    }

    pub fn run(&self, args: &[&str]) -> Output {
        run(self.0.path(), args)
    }

    /// Standard output of a command that ends with `code`.
    pub fn text(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, args: &[&str], code: i32) -> serde_json::Value {
        serde_json::from_str(&self.text(args, code)).unwrap()
    }

    pub fn error(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Two VMs of one process, found running.
pub fn two() -> Demo {
    Demo::new(Shape {
        vms: Vms::Attached,
        ..Shape::default()
    })
}

/// Runs a command in a folder.
pub fn run(folder: &Path, args: &[&str]) -> Output {
    analyzer().current_dir(folder).args(args).output().unwrap()
}

//! Rows of `keyframes` to pages: what a page's rows have in common is read once.

use std::path::Path;

use events::{Gfn, Seq, Spte};
use polars::prelude::*;

use crate::{KeyframePage, KeyframeRow, Row as _, TraceError, table::cells};

/// The pages of a slice. One whose rows continue in the next slice comes in parts, with one number.
pub(crate) fn from_frame(frame: &DataFrame, path: &Path) -> Result<Vec<KeyframePage>, TraceError> {
    let seqs = cells::<Seq>(frame, "seq", path)?;
    let indexes = cells::<Option<u16>>(frame, "index", path)?;
    let sptes = cells::<Option<Spte>>(frame, "spte", path)?;
    let gfns = cells::<Option<Gfn>>(frame, "leaf_gfn", path)?;
    let groups: Vec<usize> = seqs.chunk_by(Seq::eq).map(<[Seq]>::len).collect();
    let heads = heads(frame, &groups, path)?;
    let mut rows = indexes.into_iter().zip(sptes.into_iter().zip(gfns));
    let pages = heads.into_iter().zip(groups).map(|(head, number)| {
        let mut page = KeyframePage {
            seq: head.seq,
            time_ns: head.time_ns,
            vm: head.vm,
            keyframe: head.keyframe,
            spt: head.spt,
            gfn: head.gfn,
            role: head.role,
            level: head.level,
            direct: head.direct != 0,
            unsync: head.unsync != 0,
            root_count: head.root_count,
            entries: Vec::with_capacity(number),
            gfns: Vec::with_capacity(number),
        };
        for (index, (spte, gfn)) in rows.by_ref().take(number) {
            page.entries.extend(index.zip(spte));
            page.gfns.extend(index.zip(gfn));
        }
        page
    });
    Ok(pages.collect())
}

/// The first row of each group.
fn heads(frame: &DataFrame, groups: &[usize], path: &Path) -> Result<Vec<KeyframeRow>, TraceError> {
    let error = |why: String| TraceError::Encode {
        path: path.to_owned(),
        why,
    };
    let mut start = 0;
    let mut starts = Vec::with_capacity(groups.len());
    for number in groups {
        starts.push(IdxSize::try_from(start).map_err(|_| error("too many rows".to_owned()))?);
        start += number;
    }
    let starts = IdxCa::from_vec("first".into(), starts);
    let heads = frame
        .take(&starts)
        .map_err(|found| error(found.to_string()))?;
    KeyframeRow::from_frame(&heads, path)
}

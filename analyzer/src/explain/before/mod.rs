//! What the records before the explained one give: the facts as they are known when it comes.

mod change;
mod fault;
mod history;
mod invalidations;
mod page;
mod periods;
mod record;
mod state;
mod stores;
mod translations;

pub(super) use fault::Recent;
pub(super) use history::History;
pub(super) use invalidations::Invalidations;
pub(super) use page::Lives;
pub(super) use state::Before;
pub(super) use stores::{clear, is_store_of, is_within, left_by, part};

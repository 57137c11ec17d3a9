//! The requested page of a list.

use uuid::Uuid;

/// A page of a list, as input of a use case.
#[derive(Clone, Debug)]
pub struct PageInput<C> {
    /// The principal that requests it.
    pub principal: Uuid,
    /// The position after which the page begins; `None` for the first page.
    pub after: Option<C>,
    /// The number of rows to read: one more than the page size, to detect whether there is a next page.
    pub limit: u64,
}

//! Requests on their way to one side: in order, but for the content of large files, which lets everything else pass.

use std::collections::VecDeque;

use crate::message::{Block, Request, RequestId};

/// Two queues: `first` is sent before anything of `bulk`.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    first: VecDeque<Request>,
    bulk: VecDeque<Request>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, request: Request) {
        self.first.push_back(request);
    }

    /// Adds content. The request it belongs to must have been pushed before.
    pub(super) fn push_data(&mut self, id: RequestId, block: Block, bulk: bool) {
        self.bytes += block.carried();
        let request = Request::Data { id, block };
        if bulk { self.bulk.push_back(request) } else { self.first.push_back(request) }
    }

    /// Adds a batch with its content.
    pub(super) fn push_batch(&mut self, request: Request) {
        self.bytes += request.carried();
        self.first.push_back(request);
    }

    pub(super) fn pop(&mut self) -> Option<Request> {
        let request = self.first.pop_front().or_else(|| self.bulk.pop_front())?;
        self.bytes -= request.carried();
        Some(request)
    }

    /// Gives up a request: what was not sent of its content never is.
    pub(super) fn cancel(&mut self, id: RequestId) {
        self.drop_bulk(id);
        self.first.push_back(Request::Cancel { id });
    }

    /// Drops what was not sent of a large file.
    pub(super) fn drop_bulk(&mut self, id: RequestId) {
        let bytes = &mut self.bytes;
        self.bulk.retain(|request| match request {
            Request::Data { id: of, block } if *of == id => {
                *bytes -= block.carried();
                false
            }
            _ => true,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.bulk.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

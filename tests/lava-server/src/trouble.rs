//! What a test may let go wrong.

use std::collections::VecDeque;
use std::time::Duration;

/// What happens to a request instead of, or before, its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// This HTTP status, from a proxy in front: nothing is done.
    Status(u16),
    /// The work is done, then the connection is closed without an answer.
    CutAnswer,
    /// The connection is closed and nothing is done.
    CloseBefore,
    /// The work and the answer come this much later.
    Delay(Duration),
}

#[derive(Debug)]
struct Planned {
    failure: Failure,
    prefix: String,
    left: usize,
}

/// Failures to come, first planned first used.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    planned: VecDeque<Planned>,
}

impl Trouble {
    pub(crate) fn plan(&mut self, failure: Failure, prefix: &str, times: usize) {
        if times > 0 {
            self.planned.push_back(Planned {
                failure,
                prefix: prefix.to_owned(),
                left: times,
            });
        }
    }

    pub(crate) fn clear(&mut self) {
        self.planned.clear();
    }

    /// The failure for `POST /api/v0.2/jobs/`, if one is planned: a prefix with a space is compared with the method too.
    pub(crate) fn take(&mut self, request: &str) -> Option<Failure> {
        let path = request.split_once(' ').map_or(request, |(_, path)| path);
        let index = self.planned.iter().position(|planned| {
            let whole = if planned.prefix.contains(' ') { request } else { path };
            whole.starts_with(&planned.prefix)
        })?;
        let planned = &mut self.planned[index];
        let failure = planned.failure;
        planned.left -= 1;
        if planned.left == 0 {
            self.planned.remove(index);
        }
        Some(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_used_as_often_as_planned() {
        let mut trouble = Trouble::default();
        trouble.plan(Failure::Status(502), "/api/", 2);
        trouble.plan(Failure::CutAnswer, "POST /RPC2", 1);
        trouble.plan(Failure::CloseBefore, "/", 0);
        assert_eq!(trouble.take("GET /RPC2"), None);
        assert_eq!(trouble.take("POST /RPC2"), Some(Failure::CutAnswer));
        assert_eq!(trouble.take("POST /RPC2"), None);
        assert_eq!(trouble.take("GET /api/v0.2/jobs/"), Some(Failure::Status(502)));
        assert_eq!(trouble.take("POST /api/v0.2/jobs/"), Some(Failure::Status(502)));
        assert_eq!(trouble.take("GET /api/v0.2/jobs/"), None);
    }
}

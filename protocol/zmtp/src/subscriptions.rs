//! What a subscriber sends upstream, in both of its forms.
//!
//! ```text
//! ZMTP 3.1: the commands SUBSCRIBE and CANCEL
//! ZMTP 3.0: a message of one frame, +------+------ … +
//!                                   | 1, 0 | prefix  |   1 subscribes, 0 cancels
//!                                   +------+------ … +
//! ```

use crate::command::Command;
use crate::message::{encode_message, frames};
use bytes::{BufMut, Bytes, BytesMut};

const SUBSCRIBE: u8 = 1;
const CANCEL: u8 = 0;

/// One change of a subscriber's wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionChange {
    /// Send messages whose first frame begins with this.
    Subscribe(Bytes),
    /// No more of those.
    Cancel(Bytes),
}

impl SubscriptionChange {
    /// Reads a command; `None` if it is another one.
    pub fn from_command(command: &Command) -> Option<SubscriptionChange> {
        match command {
            Command::Subscribe(prefix) => Some(SubscriptionChange::Subscribe(prefix.clone())),
            Command::Cancel(prefix) => Some(SubscriptionChange::Cancel(prefix.clone())),
            _ => None,
        }
    }

    /// Reads a whole message, as its ZMTP bytes; `None` if it is not a subscription.
    pub fn from_message(message: &[u8]) -> Option<SubscriptionChange> {
        let mut frames = frames(message);
        let (&kind, prefix) = frames.next()?.split_first()?;
        if frames.next().is_some() {
            return None;
        }
        let prefix = Bytes::copy_from_slice(prefix);
        match kind {
            SUBSCRIBE => Some(SubscriptionChange::Subscribe(prefix)),
            CANCEL => Some(SubscriptionChange::Cancel(prefix)),
            _ => None,
        }
    }

    /// Appends the command, for a 3.1 peer.
    pub fn encode_command(&self, out: &mut BytesMut) {
        let command = match self {
            SubscriptionChange::Subscribe(prefix) => Command::Subscribe(prefix.clone()),
            SubscriptionChange::Cancel(prefix) => Command::Cancel(prefix.clone()),
        };
        command.encode(out);
    }

    /// Appends the message, which every peer understands.
    pub fn encode_message(&self, out: &mut BytesMut) {
        let (kind, prefix) = match self {
            SubscriptionChange::Subscribe(prefix) => (SUBSCRIBE, prefix),
            SubscriptionChange::Cancel(prefix) => (CANCEL, prefix),
        };
        let mut body = BytesMut::with_capacity(1 + prefix.len());
        body.put_u8(kind);
        body.put_slice(prefix);
        encode_message(&[&body], out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_messages_are_not_subscriptions() {
        let messages: [&[&[u8]]; 4] = [&[b""], &[b"\x02a"], &[b"\x01a", b"b"], &[b"org.lab.device"]];
        for frames in messages {
            let mut message = BytesMut::new();
            encode_message(frames, &mut message);
            assert_eq!(SubscriptionChange::from_message(&message), None);
        }
        assert_eq!(SubscriptionChange::from_message(b""), None);
    }

    proptest! {
        #[test]
        fn both_forms_are_read_back(prefix in proptest::collection::vec(any::<u8>(), 0..400), cancel: bool) {
            let prefix = Bytes::from(prefix);
            let change = if cancel { SubscriptionChange::Cancel(prefix) } else { SubscriptionChange::Subscribe(prefix) };
            let mut message = BytesMut::new();
            change.encode_message(&mut message);
            prop_assert_eq!(SubscriptionChange::from_message(&message), Some(change.clone()));

            let mut frame = BytesMut::new();
            change.encode_command(&mut frame);
            let body = frames(&frame).next().map(Bytes::copy_from_slice).unwrap_or_default();
            let command = Command::decode(body).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(SubscriptionChange::from_command(&command), Some(change));
        }
    }
}

//! Takes an answer whole and bounded, whatever the origin sends.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;

/// Interim answers that are skipped before the stream is given up: nobody honest sends more, and a
/// flood never ends.
pub(super) const MAX_INTERIM: usize = 8;

/// Body of an answer, octets: FCM's and Mattermost's largest honest answers are a few KiB.
pub const ANSWER_BODY: usize = 1024 * 1024;

pub(super) enum ReceiveFailure {
    /// The stream failed; `begun`: within an answer.
    Stream {
        error: h2::Error,
        begun: bool,
    },
    Excess(&'static str),
}

pub(super) async fn receive(
    mut response: ResponseFuture,
) -> Result<http::Response<Bytes>, ReceiveFailure> {
    let mut interim = 0;
    let head = poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(_))) = response.poll_informational(cx) {
            interim += 1;
            if interim > MAX_INTERIM {
                return Poll::Ready(Err(ReceiveFailure::Excess("a flood of interim answers")));
            }
        }
        Pin::new(&mut response)
            .poll(cx)
            .map_err(|error| ReceiveFailure::Stream { error, begun: false })
    })
    .await?;
    let (head, mut body) = head.into_parts();
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|error| ReceiveFailure::Stream { error, begun: true })?;
        // The window is only ours to give back; a failure means that the stream has ended.
        let _ = body.flow_control().release_capacity(piece.len());
        if whole.len() + first.as_ref().map_or(0, Bytes::len) + piece.len() > ANSWER_BODY {
            return Err(ReceiveFailure::Excess("an answer without end"));
        }
        match first.take() {
            None if whole.is_empty() => first = Some(piece),
            None => whole.extend_from_slice(&piece),
            Some(before) => {
                whole.extend_from_slice(&before);
                whole.extend_from_slice(&piece);
            }
        }
    }
    let body = first.unwrap_or_else(|| whole.freeze());
    Ok(http::Response::from_parts(head, body))
}

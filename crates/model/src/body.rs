//! Bodies of answers: text in pieces, or a stream of events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::record::Json;
use crate::sse::Subscription;

pub enum Body {
    One(Option<Bytes>),
    Pieces(VecDeque<Bytes>),
    Events(Box<Subscription>),
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::One(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl From<Json> for Body {
    fn from(mut json: Json) -> Self {
        match json.pieces.len() {
            1 => Self::One(json.pieces.pop()),
            _ => Self::Pieces(json.pieces.into()),
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.get_mut() {
            Self::One(bytes) => bytes.take(),
            Self::Pieces(pieces) => pieces.pop_front(),
            Self::Events(events) => match events.poll_next(context) {
                Poll::Ready(bytes) => bytes,
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::One(bytes) => bytes.is_none(),
            Self::Pieces(pieces) => pieces.is_empty(),
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::One(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Pieces(pieces) => SizeHint::with_exact(pieces.iter().map(Bytes::len).sum::<usize>() as u64),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

//! Answers that are almost HTTP: SHOUTcast and some cameras begin with `ICY 200 OK`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const ICY: &[u8] = b"ICY ";
const HTTP: &[u8] = b"HTTP/1.0 ";

/// A connection whose first answer may begin with `ICY ` in place of a version of HTTP.
pub(super) struct Lenient<S> {
    inner: S,
    /// The beginning of the answer, as far as it was read and not given on.
    beginning: Vec<u8>,
    /// Whether the beginning is known: from then on bytes are only passed on.
    known: bool,
}

impl<S> Lenient<S> {
    /// Around a fresh connection.
    pub fn new(inner: S) -> Self {
        Self { inner, beginning: Vec::new(), known: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.known {
            let mut bytes = [0; ICY.len()];
            let wanted = ICY.len() - self.beginning.len();
            let mut piece = ReadBuf::new(&mut bytes[..wanted]);
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut piece))?;
            let read = piece.filled().to_vec();
            self.beginning.extend_from_slice(&read);
            self.known =
                read.is_empty() || self.beginning.len() == ICY.len() || !ICY.starts_with(&self.beginning);
            if self.beginning == ICY {
                self.beginning = HTTP.to_vec();
            }
        }
        if self.beginning.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, out);
        }
        let given = self.beginning.len().min(out.remaining());
        out.put_slice(&self.beginning[..given]);
        self.beginning.drain(..given);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

//! A connection after the protocol was changed: bytes both ways, until both sides have ended.

use bytes::Bytes;
use hatchery_pool_client::Session;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::io;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(crate) struct Switched {
    pub(crate) session: Session,
    /// What the worker sent right after its answer.
    pub(crate) early: Bytes,
}

impl Switched {
    /// Carries bytes until both sides have ended, one fails, or `cut`.
    pub(crate) async fn carry(mut self, client: OnUpgrade, cut: CancellationToken) {
        let carried = async {
            let mut client = TokioIo::new(client.await.map_err(io::Error::other)?);
            client.write_all(&self.early).await?;
            // The end of one direction is passed on, and the other one goes on.
            copy_bidirectional(&mut client, &mut self.session).await
        };
        let complete = tokio::select! {
            carried = carried => carried.is_ok(),
            () = cut.cancelled() => false,
        };
        if complete {
            let _ = self.session.finish().await;
        }
    }
}

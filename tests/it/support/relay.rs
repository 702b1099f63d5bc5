//! A relay in front of a part, whose connections can be abandoned: neither end hears anything more, also not of that.

use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// It ends with its handle.
pub(crate) struct Relay {
    pub(crate) port: u16,
    /// Of the connections that are open now.
    abandoned: Arc<Mutex<CancellationToken>>,
    serving: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let abandoned = Arc::<Mutex<CancellationToken>>::default();
        let serving = tokio::spawn(serve(listener, upstream, Arc::clone(&abandoned)));
        Self { port, abandoned, serving }
    }

    /// Nothing passes any more over the connections that are open; new ones are as before.
    pub(crate) fn abandon(&self) {
        std::mem::take(&mut *self.abandoned.lock().expect("nobody panics with it")).cancel();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, upstream: u16, abandoned: Arc<Mutex<CancellationToken>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((mut near, _)) = listener.accept().await else { return };
        let abandoned = abandoned.lock().expect("nobody panics with it").clone();
        connections.spawn(async move {
            let Ok(mut far) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
            tokio::select! {
                // That either end closes it, or breaks, is not the relay's to judge.
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                () = abandoned.cancelled() => std::future::pending().await,
            }
        });
    }
}

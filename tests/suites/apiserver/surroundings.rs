//! What answers the operator by HTTP where no pod runs.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An application without rules, and agents, on a port of this machine; requests for rules are counted.
pub(crate) async fn answers(agent: Arc<Mutex<Value>>) -> Result<(SocketAddr, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let read = connection.read(&mut request).await.unwrap_or_default();
            let line = String::from_utf8_lossy(&request[..read]);
            let body = if line.lines().next().is_some_and(|line| line.contains(":9180/status ")) {
                agent.lock().unwrap_or_else(PoisonError::into_inner).to_string()
            } else {
                count.fetch_add(1, Ordering::Relaxed);
                "[]".to_owned()
            };
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    Ok((address, asked))
}

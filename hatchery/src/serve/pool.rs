//! The pool inside the web server: its channel, and a new one whenever the old one is gone.

use super::reload::Reloads;
use hatchery_pool_client::{
    AppOptions, CallError, Client, ConnectError, GetError, PoolConfig, PoolServer, Session, ShutdownError,
};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// A request waits this long for a pool that comes back.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// So many new pools within this time; more is a fault that starting again won't mend.
const RESTARTS: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Pool {
    /// `None` once it was shut down.
    server: RwLock<Option<PoolServer>>,
    channel: Mutex<Channel>,
    /// What the next pool is started with, if not what this one was.
    next: Mutex<Option<PoolConfig>>,
    /// One connects, the others wait for it.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Channel {
    client: Option<Client>,
    /// Counts the channels, so that a broken one is given up once.
    number: u64,
}

/// What becomes of a pool that is gone.
#[derive(Debug)]
pub(crate) enum Revival<R> {
    /// It is started again so.
    By(R),
    /// It can't be; the sentence to end with.
    Impossible(String),
}

/// What a question comes to that any pool answers at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulse {
    /// It was answered.
    Beats,
    /// There is no pool at this moment, or a new one is being started.
    Away,
    /// There is one, and it does not answer.
    Missing,
}

impl Pool {
    pub(crate) fn new(server: PoolServer) -> Self {
        Self {
            server: RwLock::new(Some(server)),
            channel: Mutex::new(Channel { client: None, number: 0 }),
            next: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(()),
        }
    }

    /// A session with the app at `root`, for what `line` says. A pool that went away meanwhile is waited for: nothing
    /// was sent yet.
    ///
    /// # Errors
    /// The pool's own, or that it stays away.
    pub(crate) async fn get(&self, root: &Path, line: &str) -> Result<Session, GetError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let gone = match self.client(deadline).await {
                Ok((client, number)) => match client.get_labelled(root, &AppOptions::default(), line).await {
                    Err(GetError::PoolGone(why)) => {
                        self.give_up(number);
                        why
                    }
                    answer => return answer,
                },
                Err(why) => why,
            };
            if Instant::now() >= deadline {
                return Err(GetError::PoolGone(gone));
            }
            sleep(PAUSE).await;
        }
    }

    /// Asks whether the pool lives, and waits for the answer until `deadline`.
    pub(crate) async fn pulse(&self, deadline: Instant) -> Pulse {
        let answered = async {
            while let Ok((client, number)) = self.client(deadline).await {
                match client.count().await {
                    Err(CallError::PoolGone(_)) => self.give_up(number),
                    _ => return Pulse::Beats,
                }
                sleep(PAUSE).await;
            }
            Pulse::Missing
        };
        match timeout_at(deadline, answered).await {
            Ok(Pulse::Beats) => Pulse::Beats,
            _ if self.is_away().await => Pulse::Away,
            _ => Pulse::Missing,
        }
    }

    async fn is_away(&self) -> bool {
        match self.server.try_read().as_deref() {
            Ok(Some(server)) => timeout(Duration::ZERO, server.gone()).await.is_ok(),
            // It is being started, or was told to go.
            Ok(None) | Err(_) => true,
        }
    }

    /// The pool's channel, for what is no request.
    ///
    /// # Errors
    /// Why there is none within that time.
    pub(crate) async fn operator(&self, within: Duration) -> Result<Client, String> {
        let deadline = Instant::now() + within;
        loop {
            let (client, number) = self.client(deadline).await?;
            match timeout_at(deadline, client.count()).await {
                Ok(Err(CallError::PoolGone(_))) => self.give_up(number),
                Ok(_) => return Ok(client),
                Err(_) => return Err("it does not answer".to_owned()),
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits until the operator wants all of this to end, whichever pool is told so.
    pub(crate) async fn told_to_end(&self) {
        loop {
            if let Some(server) = self.server.read().await.as_ref() {
                tokio::select! {
                    biased;
                    () = server.told_to_end() => return,
                    // A new one may come, and be told so too.
                    () = server.gone() => {}
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn client(&self, deadline: Instant) -> Result<(Client, u64), String> {
        if let Some(client) = self.open_channel() {
            return Ok(client);
        }
        let _turn = timeout_at(deadline, self.connecting.lock()).await.map_err(|_| "it does not answer".to_owned())?;
        if let Some(client) = self.open_channel() {
            return Ok(client);
        }
        let connected = async {
            let server = self.server.read().await;
            match server.as_ref() {
                Some(server) => server.connect().await,
                None => Err(ConnectError::PoolGone("it was shut down".to_owned())),
            }
        };
        let client = match timeout_at(deadline, connected).await {
            Ok(connected) => connected.map_err(|error| error.to_string())?,
            Err(_) => return Err("it does not answer".to_owned()),
        };
        let mut channel = self.lock();
        channel.number += 1;
        channel.client = Some(client.clone());
        Ok((client, channel.number))
    }

    fn open_channel(&self) -> Option<(Client, u64)> {
        let channel = self.lock();
        Some((channel.client.clone()?, channel.number))
    }

    fn give_up(&self, number: u64) {
        let mut channel = self.lock();
        if channel.number == number {
            channel.client = None;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Channel> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a new pool whenever the old one is gone. Returns the sentence to end with.
    pub(crate) async fn keep_alive<R>(&self, revival: Revival<R>) -> String
    where
        R: Fn(&mut PoolServer) -> Result<(), String>,
    {
        let mut restarts: Vec<Instant> = Vec::new();
        loop {
            match self.server.read().await.as_ref() {
                Some(server) => server.gone().await,
                None => std::future::pending().await,
            }
            let restarting = match &revival {
                Revival::By(restarting) => restarting,
                Revival::Impossible(sentence) => return sentence.clone(),
            };
            let now = Instant::now();
            restarts.retain(|at| now.duration_since(*at) < WINDOW);
            if restarts.len() >= RESTARTS {
                return format!(
                    "the pool ended {} times within {} s; its log says why",
                    RESTARTS + 1,
                    WINDOW.as_secs()
                );
            }
            // A fault that lasts a moment shall not use up all attempts.
            sleep(PAUSE * (1 << restarts.len())).await;
            restarts.push(now);
            self.lock().client = None;
            if let Some(server) = self.server.write().await.as_mut() {
                let next = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(Err(error)) = next.map(|config| server.configure(config)) {
                    tracing::error!("the next pool is configured as the first was: {error}");
                }
                match tokio::task::block_in_place(|| restarting(server)) {
                    Ok(()) => tracing::warn!("the pool was gone; a new one is running"),
                    Err(error) => tracing::error!("the pool is gone, and no new one could be started: {error}"),
                }
            }
        }
    }

    /// Ends the pool. Nobody may be in [`Self::keep_alive`] any more.
    ///
    /// # Errors
    /// When it did not go by itself.
    pub(crate) async fn shut_down(&self, grace: Duration) -> Result<(), ShutdownError> {
        self.lock().client = None;
        match self.server.write().await.take() {
            Some(server) => tokio::task::block_in_place(|| server.shutdown(grace)),
            None => Ok(()),
        }
    }
}

impl Reloads for Pool {
    async fn reload(&self, next: Option<PoolConfig>) -> Result<(), CallError> {
        let (client, _) = self.client(Instant::now() + PATIENCE).await.map_err(CallError::PoolGone)?;
        client.reload().await?;
        if next.is_some() {
            *self.next.lock().unwrap_or_else(PoisonError::into_inner) = next;
        }
        Ok(())
    }
}

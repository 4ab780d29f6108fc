//! Sends requests: time limits, retries of what is safe to repeat, and credentials renewed when they run out.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use ::kube::client::{AuthError, Body};
use ::kube::{Client, Config};
use http::Response;
use http_body_util::{BodyExt, Collected, LengthLimitError, Limited};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{Answer, words};
use super::request::{Call, Effect};
use crate::error::ClusterError;
use crate::port::Target;

/// How long one attempt of something harmless may take.
const READ_LIMIT: Duration = Duration::from_secs(15);
/// How long a write may take: above the 60 s after which the API server itself gives up.
const WRITE_LIMIT: Duration = Duration::from_secs(65);
/// No attempt begins later than this after the first.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same for a server that has never answered and can't be connected to: most likely it is not there, or its address
/// is wrong, and the user waits.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
/// The most bytes of an answer: a page of the largest objects.
const MAX_DOCUMENT: usize = 256 * 1024 * 1024;
/// The most bytes that are read of a refusal.
const MAX_REFUSAL: usize = 1024 * 1024;

/// Why an attempt failed, as far as repeating it goes.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The server said no.
    Refused(Answer),
    /// Nothing was sent.
    NotSent {
        /// What went wrong.
        message: String,
        /// Whether it will go wrong again, as a certificate that is not trusted.
        lasting: bool,
    },
    /// The credential plugin gave nothing; nothing was sent.
    NoCredentials(String),
    /// It was sent, or may have been, and no answer came that makes sense.
    NoAnswer(String),
}

impl Failure {
    fn new(error: ::kube::Error) -> Self {
        match error {
            ::kube::Error::Auth(error) => Self::NoCredentials(credential_words(&error)),
            other => Self::from_chain(&other),
        }
    }

    /// Looks through the causes for the one that tells how far the request went.
    fn from_chain(error: &(dyn StdError + 'static)) -> Self {
        let mut not_sent = false;
        let mut lasting = false;
        for cause in causes(error) {
            if let Some(error) = cause.downcast_ref::<AuthError>() {
                return Self::NoCredentials(credential_words(error));
            }
            if let Some(error) = cause.downcast_ref::<hyper_util::client::legacy::Error>() {
                not_sent |= error.is_connect();
            }
            if let Some(error) = cause.downcast_ref::<io::Error>() {
                lasting |= is_distrust(error);
            }
        }
        let message = deepest_words(error);
        if not_sent { Self::NotSent { message, lasting } } else { Self::NoAnswer(message) }
    }

    /// Says it in the port's words.
    pub(super) fn into_error(self, call: &Call, server: &str) -> ClusterError {
        let server = server.to_owned();
        match self {
            Self::Refused(answer) => answer.into_error(call, &server),
            Self::NoCredentials(message) => ClusterError::Unauthorized { server, message },
            Self::NoAnswer(_) if call.effect == Effect::Write => {
                ClusterError::Ambiguous { verb: call.verb, object: call.object.clone() }
            }
            Self::NotSent { message, .. } | Self::NoAnswer(message) => {
                ClusterError::Unreachable { server, message }
            }
        }
    }

    /// Tells whether the request may be sent once more, for all we know.
    fn may_repeat(&self, effect: Effect) -> bool {
        match self {
            Self::Refused(answer) => {
                answer.code == 429
                    || (effect == Effect::Nothing && matches!(answer.code, 500 | 502 | 503 | 504))
            }
            Self::NotSent { lasting, .. } => !lasting,
            Self::NoCredentials(_) => false,
            Self::NoAnswer(_) => effect == Effect::Nothing,
        }
    }

    fn asked_to_wait(&self) -> Option<Duration> {
        match self {
            Self::Refused(answer) => answer.retry_after,
            Self::NotSent { .. } | Self::NoCredentials(_) | Self::NoAnswer(_) => None,
        }
    }
}

/// Pauses that double: 0.2 s, 0.4 s, … up to a limit.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    /// Begins anew.
    pub(super) fn up_to(longest: Duration) -> Self {
        Self { next: Duration::from_millis(200), longest }
    }

    /// Returns the pause that is due.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }
}

/// What is left of our patience with one request.
struct Patience {
    since: Instant,
    pauses: Pauses,
    renewed: bool,
}

impl Patience {
    fn new() -> Self {
        Self { since: Instant::now(), pauses: Pauses::up_to(Duration::from_secs(5)), renewed: false }
    }
}

/// The client, and what is needed to make it anew.
pub(super) struct Transport {
    target: Target,
    /// Only there when a credential plugin can be run once more.
    config: Option<Config>,
    /// The client and how often it was made.
    current: RwLock<(Client, u64)>,
    /// Whether the server has ever answered.
    answered: AtomicBool,
    /// One credential plugin at a time: it may ask the user.
    renewals: Semaphore,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transport").field(&self.target).finish()
    }
}

impl Transport {
    /// Sends through `client`; `config` makes a new one when the credentials are refused.
    pub(super) fn new(client: Client, target: Target, config: Option<Config>) -> Self {
        let (current, answered) = (RwLock::new((client, 0)), AtomicBool::new(false));
        Self { target, config, current, answered, renewals: Semaphore::new(1) }
    }

    /// Says where this leads.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a request and reads the JSON document that answers it, repeating what is safe to repeat.
    pub(super) async fn value(&self, call: &Call) -> Result<Value, ClusterError> {
        let mut patience = Patience::new();
        loop {
            let (client, made) = self.current();
            match self.heard(value(&client, call).await) {
                Ok(value) => return Ok(value),
                Err(failure) => self.bear(&mut patience, call, failure, made).await?,
            }
        }
    }

    /// As [`Self::value`], once.
    pub(super) async fn value_once(&self, call: &Call) -> Result<Value, ClusterError> {
        let (client, made) = self.current();
        match value(&client, call).await {
            Err(Failure::Refused(answer)) if answer.code == 401 && self.renew(made).await => {
                value(&self.current().0, call).await
            }
            other => other,
        }
        .map_err(|failure| failure.into_error(call, &self.target.server))
    }

    /// Sends a request and returns the body of its answer as it comes, repeating until it begins.
    pub(super) async fn open(&self, call: &Call) -> Result<Body, ClusterError> {
        let mut patience = Patience::new();
        loop {
            let (client, made) = self.current();
            match self.heard(open(&client, call).await) {
                Ok(body) => return Ok(body),
                Err(failure) => self.bear(&mut patience, call, failure, made).await?,
            }
        }
    }

    /// As [`Self::open`], once.
    pub(super) async fn open_once(&self, call: &Call) -> Result<Body, Failure> {
        let (client, made) = self.current();
        match open(&client, call).await {
            Err(Failure::Refused(answer)) if answer.code == 401 && self.renew(made).await => {
                open(&self.current().0, call).await
            }
            other => other,
        }
    }

    /// Turns the connection of one request into a WebSocket, once.
    pub(super) async fn upgrade(&self, call: &Call) -> Result<::kube::client::Connection, Failure> {
        let (client, made) = self.current();
        match upgrade(&client, call).await {
            Err(Failure::Refused(answer)) if answer.code == 401 && self.renew(made).await => {
                upgrade(&self.current().0, call).await
            }
            other => other,
        }
    }

    fn current(&self) -> (Client, u64) {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers that the server answered, if it did.
    fn heard<T>(&self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        if matches!(outcome, Ok(_) | Err(Failure::Refused(_))) {
            self.answered.store(true, Ordering::Relaxed);
        }
        outcome
    }

    /// Waits until the request may be sent again, or gives the failure back as the port's error.
    async fn bear(
        &self,
        patience: &mut Patience,
        call: &Call,
        failure: Failure,
        made: u64,
    ) -> Result<(), ClusterError> {
        if matches!(&failure, Failure::Refused(answer) if answer.code == 401) && !patience.renewed {
            patience.renewed = true;
            if self.renew(made).await {
                return Ok(());
            }
        }
        let pause = patience.pauses.next_pause().max(failure.asked_to_wait().unwrap_or_default());
        let unknown = matches!(failure, Failure::NotSent { .. }) && !self.answered.load(Ordering::Relaxed);
        let limit = if unknown { FIRST_PATIENCE } else { PATIENCE };
        if !failure.may_repeat(call.effect) || patience.since.elapsed() + pause > limit {
            return Err(failure.into_error(call, &self.target.server));
        }
        sleep(pause).await;
        Ok(())
    }

    /// Runs the credential plugin again, unless someone did since the client numbered `made`. Tells whether there is
    /// a new client.
    async fn renew(&self, made: u64) -> bool {
        let Some(config) = &self.config else { return false };
        // The semaphore is never closed.
        let Ok(_permit) = self.renewals.acquire().await else { return false };
        if self.current().1 != made {
            return true;
        }
        let Ok(client) = make_client(config.clone()).await else { return false };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = (client, made + 1);
        true
    }
}

/// Makes a client; a credential plugin runs while it is made, off the async threads.
pub(super) async fn make_client(config: Config) -> Result<Client, Failure> {
    let made = tokio::task::spawn_blocking(move || Client::try_from(config)).await;
    match made {
        Ok(client) => client.map_err(Failure::new),
        Err(error) => Err(Failure::NoCredentials(words(&error.to_string()))),
    }
}

async fn value(client: &Client, call: &Call) -> Result<Value, Failure> {
    let document = async {
        let body = send(client, call).await?;
        let body = Limited::new(body, MAX_DOCUMENT).collect().await.map_err(|error| {
            let too_long = error.downcast_ref::<LengthLimitError>().is_some();
            Failure::NoAnswer(if too_long {
                "its answer has no end".to_owned()
            } else {
                deepest_words(&*error)
            })
        })?;
        serde_json::from_slice(&body.to_bytes())
            .map_err(|error| Failure::NoAnswer(format!("its answer is no JSON document ({error})")))
    };
    within(call, document).await
}

async fn open(client: &Client, call: &Call) -> Result<Body, Failure> {
    within(call, send(client, call)).await
}

async fn upgrade(client: &Client, call: &Call) -> Result<::kube::client::Connection, Failure> {
    let request = call.to_request().map_err(|error| not_a_request(&error))?;
    let upgraded = async {
        client.connect(request).await.map_err(|error| match error {
            ::kube::Error::Api(status) => Failure::Refused(Answer::from_client(&status)),
            other => Failure::new(other),
        })
    };
    within(call, upgraded).await
}

async fn within<T>(call: &Call, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let limit = match call.effect {
        Effect::Nothing => READ_LIMIT,
        Effect::Write => WRITE_LIMIT,
    };
    match timeout(limit, work).await {
        Ok(done) => done,
        Err(_elapsed) => Err(Failure::NoAnswer(format!("no answer within {} s", limit.as_secs()))),
    }
}

/// Sends once; anything but a success is a failure.
async fn send(client: &Client, call: &Call) -> Result<Body, Failure> {
    let request = call.to_client_request().map_err(|error| not_a_request(&error))?;
    let response = client.send(request).await.map_err(Failure::new)?;
    if response.status().is_success() { Ok(response.into_body()) } else { Err(refusal(response).await) }
}

async fn refusal(response: Response<Body>) -> Failure {
    let (head, body) = response.into_parts();
    // A refusal that breaks off is still a refusal.
    let body = Limited::new(body, MAX_REFUSAL).collect().await.map(Collected::to_bytes).unwrap_or_default();
    Failure::Refused(Answer::new(head.status.as_u16(), &head.headers, &body))
}

fn not_a_request(error: &http::Error) -> Failure {
    Failure::NotSent { message: error.to_string(), lasting: true }
}

/// Says what went wrong with a credential plugin, without its output, which may hold the credential.
fn credential_words(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => {
            let said = words(&String::from_utf8_lossy(&out.stderr));
            format!("the credential plugin failed ({}): {said}", out.status)
        }
        AuthError::AuthExecParse(_) => "the credential plugin's output can't be read".to_owned(),
        other => words(&other.to_string()),
    }
}

/// Tells whether TLS gave up on the server: rustls says so as invalid data, which others wrap out of sight of
/// `source`.
fn is_distrust(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>());
    error.kind() == io::ErrorKind::InvalidData || inner.is_some_and(is_distrust)
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    // Some errors stand in a chain twice; none has a hundred causes.
    let next =
        |error: &&'a (dyn StdError + 'static)| -> Option<&'a (dyn StdError + 'static)> { (*error).source() };
    std::iter::successors(Some(error), next).take(100)
}

/// Returns the words of the innermost cause, which names what happened.
pub(super) fn deepest_words(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(|cause| words(&cause.to_string())).unwrap_or_default()
}

//! How a request is told to a worker: in its protocol, and of which file where it has files.

use super::cgi::{Call, Length, Target, Unsaid};
use super::documents::{self, Found, Script};
use super::fastcgi;
use super::files::{self, Wanted};
use super::headers;
use super::log_line::Lines;
use super::pages::Page;
use super::pieces::Pieces;
use super::upload::Upload;
use super::wire::Speech;
use hatchery_pool_client::Documents;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;

/// How long it is believed where an app's files are that a session told. Files are sent without one so long: else
/// each picture of a page would take a worker away from the next page.
const BELIEVED: Duration = Duration::from_secs(5);

/// Where the files of apps are.
#[derive(Debug, Default)]
pub(crate) struct Folders(Mutex<HashMap<Arc<PathBuf>, (Documents, Instant)>>);

impl Folders {
    fn told(&self, root: &Arc<PathBuf>, documents: &Documents) {
        let now = Instant::now();
        let mut folders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match folders.get_mut(root) {
            Some((known, at)) if known == documents => *at = now,
            _ => {
                folders.retain(|_, (_, at)| now.duration_since(*at) < BELIEVED);
                folders.insert(root.clone(), (documents.clone(), now));
            }
        }
    }

    fn recent(&self, root: &Arc<PathBuf>) -> Option<Documents> {
        let folders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (documents, at) = folders.get(root)?;
        (at.elapsed() < BELIEVED).then(|| documents.clone())
    }
}

/// What becomes of a request to an app with files.
#[derive(Debug)]
pub(crate) enum Way {
    /// To a worker, for this.
    Ask(Target),
    Send(Response<Pieces>),
}

/// Finds out which file a request is for. One for each request: what was found stays found.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    script: Option<(Documents, Script)>,
}

impl Finder {
    /// Looks where an earlier session said that the files are: `Some` if no worker has to be asked.
    ///
    /// # Errors
    /// The page to answer with.
    pub(crate) async fn look_ahead(
        &mut self,
        folders: &Folders,
        root: &Arc<PathBuf>,
        call: &Call<'_>,
    ) -> Result<Option<Response<Pieces>>, Page> {
        let Some(documents) = folders.recent(root) else { return Ok(None) };
        match self.find(&documents, call).await? {
            Way::Send(answer) => Ok(Some(answer)),
            Way::Ask(_) => Ok(None),
        }
    }

    /// What a session's worker is to be asked for.
    ///
    /// # Errors
    /// The page to answer with.
    pub(crate) async fn way(
        &mut self,
        folders: &Folders,
        root: &Arc<PathBuf>,
        documents: Option<&Documents>,
        call: &Call<'_>,
    ) -> Result<Way, Page> {
        match documents {
            None => Ok(Way::Ask(call.plain_target().map_err(unsaid)?)),
            Some(documents) if documents.index.is_some() => {
                folders.told(root, documents);
                self.find(documents, call).await
            }
            Some(documents) => {
                let mut target = call.plain_target().map_err(unsaid)?;
                let file = documents::unseen(documents, &target.path_info).map_err(|_| nothing())?;
                target.script = Some((file, documents.root.clone()));
                Ok(Way::Ask(target))
            }
        }
    }

    async fn find(&mut self, documents: &Documents, call: &Call<'_>) -> Result<Way, Page> {
        let known = self.script.take().filter(|(at, _)| at == documents);
        let script = match known {
            Some((_, script)) => script,
            None => {
                let path = call.path().map_err(|_| nothing())?;
                let at = documents.clone();
                let found = spawn_blocking(move || documents::find(&at, &path)).await;
                match found.map_err(|error| Page::internal(format_args!("files can't be looked at: {error}")))? {
                    Found::Script(script) => script,
                    Found::File(plain) => {
                        return files::answer(plain, &Wanted::of(&call.head.method, &call.head.headers)).map(Way::Send);
                    }
                    Found::Folder(place) => return Err(moved(call, &place)),
                    Found::Unreadable => {
                        return Err(Page::new(StatusCode::FORBIDDEN, "Forbidden", "This file may not be read."));
                    }
                    Found::Nothing => return Err(nothing()),
                }
            }
        };
        self.script = Some((documents.clone(), script.clone()));
        let Script { file, name, path_info } = script;
        Ok(Way::Ask(Target { script_name: name, path_info, script: Some((file, documents.root.clone())) }))
    }
}

fn moved(call: &Call<'_>, place: &str) -> Page {
    let query = call.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Page::moved(&format!("{}{place}{query}", call.prefix))
}

fn nothing() -> Page {
    Page::new(StatusCode::NOT_FOUND, "Not found", "There is nothing at this address.")
}

pub(crate) fn unsaid(why: Unsaid) -> Page {
    match why {
        Unsaid::Nul => Page::bad_request("The address has a NUL in it."),
        Unsaid::TooLong => Page::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "Too long",
            "The head of the request is longer than the application takes.",
        ),
    }
}

/// A request to a worker that speaks HTTP.
pub(crate) fn as_http(call: &Call<'_>, body: Upload) -> Request<Upload> {
    let mut request = Request::new(body);
    request.method_mut().clone_from(&call.head.method);
    request.uri_mut().clone_from(call.uri);
    *request.headers_mut() = headers::for_worker(call.head, call.host, call.prefix, call.peer, call.upgrade);
    request
}

/// A request to a worker that speaks `session`.
///
/// # Errors
/// The page to answer with.
pub(crate) fn as_session(call: &Call<'_>, body: Upload) -> Result<(Request<Upload>, Speech), Page> {
    let target = call.plain_target().map_err(unsaid)?;
    let head = call.block(&target).map_err(unsaid)?;
    Ok((framing(call, body), Speech::Session { head }))
}

/// A request to a FastCGI worker. The length of its body is known.
pub(crate) fn as_fastcgi(call: &Call<'_>, target: &Target, body: Upload, errors: Lines) -> (Request<Upload>, Speech) {
    let length = match call.body {
        Length::Known(length) => length,
        Length::None | Length::Chunked => 0,
    };
    // Nothing but answers comes back through it.
    let head = fastcgi::begin(&Call { upgrade: None, ..*call }.params(target));
    let answer = Box::new(fastcgi::Answer::new(call.head.method == Method::HEAD, errors));
    (framing(call, body), Speech::Fastcgi { head, body: length, answer })
}

/// What hyper has to know: how the body is framed, and what the answer may be.
fn framing(call: &Call<'_>, body: Upload) -> Request<Upload> {
    let mut request = Request::new(body);
    request.method_mut().clone_from(&call.head.method);
    let mut headers = HeaderMap::new();
    match call.body {
        Length::None => {}
        Length::Known(length) => drop(headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length))),
        Length::Chunked => drop(headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
    }
    *request.headers_mut() = headers;
    request
}

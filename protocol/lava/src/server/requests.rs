//! How requests are made; shared with the submission.

use std::sync::atomic::Ordering;

use dxr::Value;
use reqwest::header::HeaderValue;
use reqwest::{Client, RequestBuilder, Url};
use serde_json::Value as Json;

use super::Server;
use crate::error::ServerError;
use crate::http::{self, ANSWER_LIMIT, Reply};
use crate::identity::Identity;
use crate::secrets::Secrets;
use crate::xml_rpc::{self, Outcome};

/// Nothing is known of the REST API.
pub(super) const REST_UNKNOWN: u8 = 0;
const REST_THERE: u8 = 1;
/// Not there when it was asked for, by an answer that may be of somebody in the way. Missing once XML-RPC answers.
const REST_UNSEEN: u8 = 2;
const REST_MISSING: u8 = 3;

/// Objects of one page, and how many pages are read.
const PAGE: usize = 500;
pub(super) const PAGES: usize = 400;

impl Server {
    pub(crate) fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// What no text of an error may hold.
    pub(crate) fn secrets(&self) -> Secrets {
        let asked = || self.inner.user.get().and_then(Option::as_deref);
        let identity = &self.inner.identity;
        Secrets::of(identity, identity.username.as_deref().or_else(asked))
    }

    pub(crate) fn token_header(&self) -> Option<&HeaderValue> {
        self.inner.token.as_ref()
    }

    /// None: not known yet.
    pub(crate) fn has_rest(&self) -> Option<bool> {
        match self.inner.rest.load(Ordering::Relaxed) {
            REST_THERE => Some(true),
            REST_MISSING => Some(false),
            _ => None,
        }
    }

    pub(super) fn path(&self, segments: &[&str]) -> Url {
        let mut url = self.uri().clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// `api/v0.2/…/`
    pub(crate) fn api(&self, segments: &[&str]) -> Url {
        let path: Vec<&str> = ["api", "v0.2"].iter().chain(segments).chain(&[""]).copied().collect();
        self.path(&path)
    }

    pub(super) async fn rest(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        what: &str,
    ) -> Result<Option<Reply>, ServerError> {
        self.rest_within(path, query, what, ANSWER_LIMIT).await
    }

    /// GET of the REST API: a 2xx answer. None: the server has no such API.
    pub(super) async fn rest_within(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        what: &str,
        limit: usize,
    ) -> Result<Option<Reply>, ServerError> {
        if self.has_rest() == Some(false) {
            return Ok(None);
        }
        let mut url = self.api(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let reply = self.get(url, limit).await?;
        self.note_rest(&reply);
        if reply.status.is_success() {
            return Ok(Some(reply));
        }
        // Neither LAVA's word nor JSON of a gateway: perhaps there is no such API.
        let is_nobodys = reply.status == reqwest::StatusCode::NOT_FOUND && !reply.is_json();
        if is_nobodys && self.has_rest().is_none() && !self.probe_rest().await? {
            return Ok(None);
        }
        Err(reply.rest_refusal(what))
    }

    /// Only LAVA itself answers 2xx with JSON there: from then on the API is known to be there.
    pub(crate) fn note_rest(&self, reply: &Reply) {
        if self.has_rest() != Some(true) && reply.status.is_success() && reply.is_json() {
            self.inner.rest.store(REST_THERE, Ordering::Relaxed);
        }
    }

    async fn get(&self, url: Url, limit: usize) -> Result<Reply, ServerError> {
        http::get(
            &self.inner.client,
            self.identity(),
            url,
            self.token_header(),
            limit,
            &self.secrets(),
        )
        .await
    }

    /// Whether the root of the API is there.
    async fn probe_rest(&self) -> Result<bool, ServerError> {
        let root = self.get(self.api(&[]), ANSWER_LIMIT).await?;
        self.note_rest(&root);
        if self.has_rest() == Some(true) {
            return Ok(true);
        }
        if root.status.is_success() {
            return Err(root.unexpected());
        }
        if root.status != reqwest::StatusCode::NOT_FOUND || (root.is_json() && !root.is_not_found_by_rest()) {
            return Err(root.rest_refusal("the REST API"));
        }
        // Nothing to do where something else is known by now.
        let rest = &self.inner.rest;
        let _ = rest.compare_exchange(REST_UNKNOWN, REST_UNSEEN, Ordering::Relaxed, Ordering::Relaxed);
        Ok(false)
    }

    /// That the API is missing, if XML-RPC shows that LAVA is there at all.
    pub(super) async fn no_rest(&self, what: &str) -> ServerError {
        if self.has_rest() != Some(false)
            && let Err(error) = self.xml_rpc("system.version", Vec::new(), "system.version").await
        {
            return error;
        }
        ServerError::NotFound {
            what: format!("{what} (the server has no REST API v0.2)"),
        }
    }

    /// The first page of a list.
    pub(super) async fn page(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        what: &str,
    ) -> Result<Vec<Json>, ServerError> {
        self.page_at(path, query, (PAGE, 0), what).await
    }

    /// One page of a list: so many objects from an offset on.
    pub(super) async fn page_at(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        (limit, offset): (usize, usize),
        what: &str,
    ) -> Result<Vec<Json>, ServerError> {
        let mut query = query.to_vec();
        query.push(("limit", limit.to_string()));
        query.push(("offset", offset.to_string()));
        let Some(reply) = self.rest(path, &query, what).await? else {
            return Err(self.no_rest(what).await);
        };
        match reply.json()?.get_mut("results") {
            Some(Json::Array(results)) => Ok(std::mem::take(results)),
            _ => Err(reply.unexpected()),
        }
    }

    /// All pages of a list. None: no REST.
    pub(super) async fn pages(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        what: &str,
    ) -> Result<Option<Vec<Json>>, ServerError> {
        let mut all = Vec::new();
        for _ in 0..PAGES {
            let mut query = query.to_vec();
            query.push(("limit", PAGE.to_string()));
            query.push(("offset", all.len().to_string()));
            let Some(reply) = self.rest(path, &query, what).await? else {
                return Ok(None);
            };
            let mut page = reply.json()?;
            // A server may give less than was asked for: `next` tells whether there is more.
            let more = page.get("next").is_some_and(|next| !next.is_null());
            let Some(Json::Array(results)) = page.get_mut("results") else {
                return Err(reply.unexpected());
            };
            let empty = results.is_empty();
            all.append(results);
            if !more || empty {
                break;
            }
        }
        Ok(Some(all))
    }

    /// An XML-RPC call, signed, ready to be sent.
    pub(crate) async fn call(
        &self,
        client: &Client,
        method: &str,
        params: Vec<Value>,
    ) -> Result<RequestBuilder, ServerError> {
        let user = self.user().await?;
        let request = xml_rpc::request(client, self.path(&["RPC2"]), method, params).map_err(|_| unwritable())?;
        Ok(self.signed(request, user.as_deref()))
    }

    pub(super) async fn xml_rpc(
        &self,
        method: &str,
        params: Vec<Value>,
        what: &str,
    ) -> Result<(Value, Reply), ServerError> {
        let request = self.call(&self.inner.client, method, params).await?;
        self.ask(request, what, ANSWER_LIMIT).await
    }

    pub(super) async fn ask(
        &self,
        request: RequestBuilder,
        what: &str,
        limit: usize,
    ) -> Result<(Value, Reply), ServerError> {
        let (outcome, reply) = self.outcome(request, limit).await?;
        Ok((outcome.value(what)?, reply))
    }

    pub(super) async fn outcome(&self, request: RequestBuilder, limit: usize) -> Result<(Outcome, Reply), ServerError> {
        let answer = xml_rpc::send(request, self.identity().timeout, limit, self.secrets()).await?;
        // LAVA is there, so its REST API is not. Nothing to do where something else is known by now.
        let rest = &self.inner.rest;
        let _ = rest.compare_exchange(REST_UNSEEN, REST_MISSING, Ordering::Relaxed, Ordering::Relaxed);
        Ok(answer)
    }

    /// `Authorization: Basic user:token`, as XML-RPC and the WebSocket want it.
    pub(super) fn signed(&self, request: RequestBuilder, user: Option<&str>) -> RequestBuilder {
        match (user, &self.inner.identity.token) {
            (Some(user), Some(token)) => request.basic_auth(user, Some(token.expose())),
            _ => request,
        }
    }

    /// The user of the token: named, or asked for once.
    pub(super) async fn user(&self) -> Result<Option<String>, ServerError> {
        let identity = &self.inner.identity;
        if identity.token.is_none() || identity.username.is_some() {
            return Ok(identity.username.clone());
        }
        self.inner.user.get_or_try_init(|| self.whoami()).await.cloned()
    }
}

/// A text that XML cannot hold.
pub(super) fn unwritable() -> ServerError {
    ServerError::Unexpected {
        status: None,
        excerpt: "the text holds characters that XML cannot".to_owned(),
    }
}

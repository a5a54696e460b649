//! `pushrelay status`: asks a running relay's admin server what it does, or to forget a latch.
//!
//! Speaks plain HTTP/1.1 to the address it is given and nothing else.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::hop::clean;
use crate::pki;

mod text;

/// The whole question and its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest answer read, octets.
const ANSWER_CAP: usize = 8 << 20;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the admin server is
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9380")]
    admin: Uri,
    /// File with the admin token, needed from other machines
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Try the credentials of this egress again, after they failed twice
    #[arg(long, value_name = "EGRESS")]
    clear_latch: Option<String>,
    /// Print the status as JSON
    #[arg(long)]
    json: bool,
}

/// Why the relay could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The URL is not `http://host[:port]`.
    #[error("--admin wants http://HOST:PORT")]
    Url,
    /// The token cannot be read, or is no field value.
    #[error("the token file cannot be used")]
    Token(#[source] std::io::Error),
    /// Nobody there.
    #[error("no admin server answers at {0}: is the relay running, is `admin.bind` another?")]
    Unreachable(String, #[source] std::io::Error),
    /// This process cannot ask at all.
    #[error("cannot ask")]
    Runtime(#[source] std::io::Error),
    /// It broke HTTP.
    #[error("what answers there is not the admin server")]
    Protocol(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("the admin server did not answer in time")]
    Timeout,
    /// It said no.
    #[error("the admin server answered {status}: {why}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its words, cleaned.
        why: String,
    },
}

/// Runs `status`.
pub fn run(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(answer(&args)),
        Err(error) => Err(AskError::Runtime(error)),
    };
    // Nothing can be done about a closed terminal.
    match result {
        Ok(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let mut text = format!("pushrelay: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                let _ = write!(text, ": {cause}");
                source = cause.source();
            }
            let _ = writeln!(std::io::stderr(), "{text}");
            match error {
                AskError::Url => ExitCode::from(super::EXIT_USAGE),
                AskError::Token(_)
                | AskError::Unreachable(..)
                | AskError::Runtime(_)
                | AskError::Protocol(_)
                | AskError::Timeout
                | AskError::Refused { .. } => ExitCode::FAILURE,
            }
        }
    }
}

async fn answer(args: &Args) -> Result<String, AskError> {
    let (method, target) = match &args.clear_latch {
        Some(egress) => {
            let query: String = url::form_urlencoded::byte_serialize(egress.as_bytes()).collect();
            (Method::POST, format!("/latch/clear?egress={query}"))
        }
        None => (Method::GET, "/status".to_owned()),
    };
    let body = told(&args.admin, args.token_file.as_deref(), method, &target).await?;
    if args.clear_latch.is_some() || args.json {
        return Ok(String::from_utf8_lossy(&body).into_owned());
    }
    let value = serde_json::from_slice(&body).map_err(|bad| AskError::Protocol(bad.into()))?;
    Ok(text::render(&value, pki::unix(SystemTime::now())))
}

/// The body of the admin server's good answer, in time.
pub(crate) async fn told(
    base: &Uri,
    token_file: Option<&Path>,
    method: Method,
    target: &str,
) -> Result<Bytes, AskError> {
    let token = match token_file {
        Some(path) => Some(std::fs::read_to_string(path).map_err(AskError::Token)?),
        None => None,
    };
    let asked = ask(base, method, target, token.as_deref().map(str::trim_end));
    let (status, body) =
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_elapsed| AskError::Timeout)??;
    if !status.is_success() {
        return Err(AskError::Refused { status, why: clean(body.trim_ascii_end(), 200) });
    }
    Ok(body)
}

/// One question to the admin server at `base`; status and whole body.
pub(crate) async fn ask(
    base: &Uri,
    method: Method,
    target: &str,
    token: Option<&str>,
) -> Result<(StatusCode, Bytes), AskError> {
    let authority = base.authority().filter(|_any| base.scheme_str() == Some("http"));
    let authority = authority.ok_or(AskError::Url)?;
    let host = authority.host().trim_matches(['[', ']']);
    let address = (host, authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| AskError::Unreachable(authority.to_string(), source))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| AskError::Protocol(error.into()))?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().map_err(|_not_a_target| AskError::Url)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_bad| AskError::Url)?;
    request.headers_mut().insert(HOST, host);
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|bad| AskError::Token(std::io::Error::other(bad)))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_CAP).collect().await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, body.to_bytes()))
    };
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    let mut open = true;
    let answered = loop {
        tokio::select! {
            answered = &mut exchange => break answered,
            // The exchange sees for itself what the end of the connection means to it.
            _ended = &mut connection, if open => open = false,
        }
    };
    answered.map_err(AskError::Protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_nobody_is_it_says_so() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let base = format!("http://{free}").parse().unwrap();
        let error = ask(&base, Method::GET, "/status", None).await.unwrap_err();
        assert!(matches!(error, AskError::Unreachable(..)), "{error}");
        let https = "https://127.0.0.1".parse().unwrap();
        assert!(matches!(ask(&https, Method::GET, "/", None).await, Err(AskError::Url)));
    }
}

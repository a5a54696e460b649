//! Kerberos through the system's GSSAPI (RFC 4559): SPNEGO tokens from the ticket cache or the
//! client keytab that the process' environment names.
//!
//! GSSAPI may ask a KDC and blocks; every step runs on tokio's blocking threads, bounded by the
//! caller's deadline.

use libgssapi::context::{ClientCtx, CtxFlags};
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE};

use super::LegFault;

/// What a KDC says of an account's key (RFC 4120 §7.5.9), in the words of MIT and Heimdal. Words,
/// because GSSAPI numbers a mechanism's codes anew; they are English, since this process never
/// sets a locale.
const REFUSALS: [&str; 4] = [
    "Preauthentication failed",
    "Decrypt integrity check failed",
    "credentials have been revoked",
    "Password has expired",
];

/// A half-finished conversation.
pub(super) struct Context(ClientCtx);

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Context(..)")
    }
}

/// One step: our next token in answer to `token`, or the first one.
pub(super) async fn step(
    context: Option<Context>,
    service: &str,
    token: Option<Vec<u8>>,
) -> Result<(Context, Vec<u8>), LegFault> {
    let name = service.to_owned();
    let work = move || -> Result<(Context, Vec<u8>), libgssapi::error::Error> {
        let mut context = match context {
            Some(context) => context,
            None => {
                let target = Name::new(name.as_bytes(), Some(GSS_NT_HOSTBASED_SERVICE))?;
                let flags = CtxFlags::GSS_C_MUTUAL_FLAG;
                Context(ClientCtx::new(None, target, flags, Some(GSS_MECH_SPNEGO)))
            }
        };
        let answer = context.0.step(token.as_deref(), None)?;
        let answer = answer.map(|bytes| bytes.to_vec()).unwrap_or_default();
        Ok((context, answer))
    };
    let fault =
        |reason: String, refused| LegFault::Gss { service: service.to_owned(), reason, refused };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            let reason = crate::hop::clean(error.to_string().as_bytes(), 300);
            let refused = REFUSALS.iter().any(|words| reason.contains(words));
            Err(fault(reason, refused))
        }
        Err(ended) => Err(fault(ended.to_string(), false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No machine has a ticket for a name under `.invalid`, whatever its Kerberos is.
    #[tokio::test]
    async fn without_a_ticket_the_fault_names_the_service() {
        let fault = step(None, "HTTP@proxy.invalid", None).await.unwrap_err();
        let LegFault::Gss { service, reason, refused } = fault else { panic!("{fault:?}") };
        assert_eq!(service, "HTTP@proxy.invalid");
        assert!(!reason.is_empty() && !refused);
    }
}

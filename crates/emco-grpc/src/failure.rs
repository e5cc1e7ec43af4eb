//! What a call's failure means to whoever called, and how a failure is told to a client.

use std::error::Error;

use drystone_appcontext::contract::ControllerError;
use tonic::{Code, Status, TimeoutExpired};

use crate::{convert::Meaningless, paths};

/// Texts by which EMCO's clients know that a controller has no such method, and need not have it.
const OPTIONAL: [(&str, &str); 2] = [
    (paths::TERMINATE_CONTEXT, "TerminateAppContext not implemented"),
    (paths::POST_EVENT, "PostEvent not implemented"),
];

/// What the failure of a call means.
pub(crate) fn of_call(status: &Status) -> ControllerError {
    let message = status.message();
    if let Some(source) = status.source() {
        // Nothing that the other side said, but something that became of the connection.
        let timed_out = chain(source).any(<dyn Error>::is::<TimeoutExpired>);
        return if timed_out {
            ControllerError::TimedOut
        } else {
            ControllerError::Unreachable(told(source))
        };
    }
    match status.code() {
        // This side found no status in what came back: whoever is there speaks no gRPC, or was cut off.
        _ if message.starts_with("grpc-status header missing") || message.starts_with("protocol error") => {
            ControllerError::Unreachable(format!("what answers there is no gRPC server: {message}"))
        }
        Code::Unavailable => ControllerError::Unreachable(message.to_owned()),
        Code::DeadlineExceeded => ControllerError::TimedOut,
        Code::Unimplemented => ControllerError::Unimplemented(message.to_owned()),
        _ if OPTIONAL.iter().any(|(_, text)| message.contains(text)) => {
            ControllerError::Unimplemented(message.to_owned())
        }
        Code::Unknown if !message.is_empty() => ControllerError::Refused(message.to_owned()),
        code => ControllerError::Refused(format!("{}: {message}", code.description())),
    }
}

/// Whether a controller, and not the connection, said this.
pub(crate) fn is_an_answer(status: &Status) -> bool {
    status.source().is_none()
        && !matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
        && matches!(of_call(status), ControllerError::Refused(_) | ControllerError::Unimplemented(_))
}

/// How it is told to a client that what it asked for at this path was not done.
pub(crate) fn to_status(path: &str, error: ControllerError) -> Status {
    match error {
        ControllerError::Refused(why) => Status::unknown(why),
        ControllerError::Unreachable(why) => Status::unavailable(why),
        ControllerError::TimedOut => Status::deadline_exceeded("it took too long"),
        ControllerError::Unimplemented(why) => {
            let optional = OPTIONAL.iter().find(|(of, _)| *of == path);
            Status::unimplemented(optional.map_or(why, |(_, text)| format!("method {text}")))
        }
    }
}

impl From<Meaningless> for Status {
    fn from(error: Meaningless) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// An error with its causes, in one line. Causes often repeat what the error says already.
pub(crate) fn told(error: &(dyn Error + 'static)) -> String {
    let mut said = String::new();
    for text in chain(error).map(ToString::to_string) {
        if said.contains(&text) {
            continue;
        }
        if !said.is_empty() {
            said.push_str(": ");
        }
        said.push_str(&text);
    }
    said
}

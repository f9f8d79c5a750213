//! Which HTTP status does each code of the contract have?

use hyper::StatusCode;
use sizewise_contract::Code;

/// Every code with its status. Codes that no request can meet have the status of their kind.
const STATUSES: &[(Code, StatusCode)] = &[
    (Code::TaskFileInvalid, StatusCode::INTERNAL_SERVER_ERROR),
    (Code::UnknownTask, StatusCode::NOT_FOUND),
    (Code::UnknownQuestion, StatusCode::BAD_REQUEST),
    (Code::UnknownDecision, StatusCode::NOT_FOUND),
    (Code::AnsweredOtherwise, StatusCode::CONFLICT),
    (Code::InputInvalid, StatusCode::BAD_REQUEST),
    (Code::InputTooLong, StatusCode::BAD_REQUEST),
    (Code::RequestInvalid, StatusCode::BAD_REQUEST),
    (Code::DataUnreadable, StatusCode::INTERNAL_SERVER_ERROR),
    (Code::DataInvalid, StatusCode::INTERNAL_SERVER_ERROR),
    (Code::TooFewExamples, StatusCode::INTERNAL_SERVER_ERROR),
    (Code::ModelFileInvalid, StatusCode::INTERNAL_SERVER_ERROR),
    (Code::ModelUnsupported, StatusCode::INTERNAL_SERVER_ERROR),
    (Code::SourceUnavailable, StatusCode::SERVICE_UNAVAILABLE),
    (Code::MayNotLeave, StatusCode::FORBIDDEN),
    (Code::BudgetSpent, StatusCode::TOO_MANY_REQUESTS),
    (Code::NotTrained, StatusCode::NOT_FOUND),
    (Code::NotCertified, StatusCode::FORBIDDEN),
    (Code::NotTried, StatusCode::CONFLICT),
    (Code::LockedRowsSpent, StatusCode::FORBIDDEN),
    (Code::LockedRowsChanged, StatusCode::FORBIDDEN),
    (Code::PromiseImpossible, StatusCode::FORBIDDEN),
    (Code::KeyMissing, StatusCode::UNAUTHORIZED),
    (Code::KeyInvalid, StatusCode::UNAUTHORIZED),
    (Code::NotAllowed, StatusCode::FORBIDDEN),
    (Code::RateLimited, StatusCode::TOO_MANY_REQUESTS),
    (Code::UnknownRoute, StatusCode::NOT_FOUND),
    (Code::MethodNotAllowed, StatusCode::METHOD_NOT_ALLOWED),
    (Code::MediaUnsupported, StatusCode::UNSUPPORTED_MEDIA_TYPE),
    (Code::BodyTooLarge, StatusCode::PAYLOAD_TOO_LARGE),
    (Code::BodyTooSlow, StatusCode::REQUEST_TIMEOUT),
    (Code::OriginRefused, StatusCode::FORBIDDEN),
    (Code::KeysNeeded, StatusCode::FORBIDDEN),
    (Code::AddressUnavailable, StatusCode::INTERNAL_SERVER_ERROR),
    (Code::ReleaseDamaged, StatusCode::INTERNAL_SERVER_ERROR),
    (Code::StoreUnavailable, StatusCode::SERVICE_UNAVAILABLE),
    (Code::StoreDamaged, StatusCode::INTERNAL_SERVER_ERROR),
    (Code::Overloaded, StatusCode::SERVICE_UNAVAILABLE),
    (Code::ShuttingDown, StatusCode::SERVICE_UNAVAILABLE),
    (Code::FileSystem, StatusCode::INTERNAL_SERVER_ERROR),
    (Code::Interrupted, StatusCode::SERVICE_UNAVAILABLE),
    (Code::Internal, StatusCode::INTERNAL_SERVER_ERROR),
];

/// The status of a code.
#[must_use]
pub fn of(code: Code) -> StatusCode {
    let row = STATUSES.iter().find(|(known, _)| *known == code);
    row.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status)| *status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sizewise_contract::error::CODES;

    #[test]
    fn every_code_has_one_status_that_fits_whether_to_retry() {
        for facts in CODES {
            let rows: Vec<_> = STATUSES.iter().filter(|(code, _)| *code == facts.code).collect();
            assert_eq!(rows.len(), 1, "{} has {} statuses", facts.name, rows.len());
            let status = of(facts.code);
            assert!(status.is_client_error() || status.is_server_error(), "{}", facts.name);
            // Of 429 a header says whether it makes sense.
            if status != StatusCode::TOO_MANY_REQUESTS {
                let may_retry =
                    [StatusCode::SERVICE_UNAVAILABLE, StatusCode::REQUEST_TIMEOUT].contains(&status);
                assert_eq!(may_retry, facts.retry, "{}: clients retry by status", facts.name);
            }
        }
        assert_eq!(STATUSES.len(), CODES.len());
    }
}

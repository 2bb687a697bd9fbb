//! The documented errors of the Cloud API, as data: code, HTTP status, title and details.
//!
//! Source: WhatsApp Cloud API, "Error codes". Throttling codes come with 400 there, which is why a client has to look at
//! the code; the `error` knob takes another status for those who want one.

/// One documented error.
pub(crate) struct Code {
    pub(crate) code: u32,
    pub(crate) status: u16,
    pub(crate) title: &'static str,
    /// None for errors of the platform, which carry no `error_data`.
    pub(crate) details: Option<&'static str>,
}

const fn platform(code: u32, status: u16, title: &'static str) -> Code {
    Code {
        code,
        status,
        title,
        details: None,
    }
}

const fn cloud(code: u32, status: u16, title: &'static str, details: &'static str) -> Code {
    Code {
        code,
        status,
        title,
        details: Some(details),
    }
}

/// What an error of `code` looks like. A code that is not documented gets the title of 131000.
pub(crate) fn lookup(code: u32) -> Code {
    let listed = match code {
        201..=299 => 200, // The permissions: 200 to 299 are documented as one.
        _ => code,
    };
    CODES
        .iter()
        .find(|row| row.code == listed)
        .map(|row| Code { code, ..*row })
        .unwrap_or(cloud(
            code,
            400,
            "Something went wrong",
            "An error the documentation does not list.",
        ))
}

#[rustfmt::skip]
const CODES: &[Code] = &[
    platform(0, 401, "Unable to authenticate the app user."),
    platform(1, 400, "An unknown error has occurred."),
    platform(2, 503, "Service temporarily unavailable"),
    platform(3, 500, "Application does not have the capability to make this API call."),
    platform(4, 400, "Application request limit reached"),
    platform(10, 403, "Application does not have permission for this action"),
    platform(33, 400, "Parameter value is not valid"),
    cloud(100, 400, "Invalid parameter", "The request included one or more unsupported or misspelled parameters."),
    platform(190, 401, "Invalid OAuth access token - Cannot parse access token"),
    platform(200, 403, "You do not have the necessary permissions required to send messages on behalf of this WhatsApp Business Account"),
    cloud(368, 403, "Temporarily blocked for policies violations", "The WhatsApp Business Account associated with the app has been restricted or disabled for violating a platform policy."),
    platform(80007, 400, "There have been too many calls to this WhatsApp Business Account. Wait a bit and try again."),
    cloud(130429, 400, "Rate limit hit", "Message failed to send because there were too many messages sent from this phone number in a short period of time."),
    cloud(130472, 400, "User's number is part of an experiment", "Failed to send message because this user's phone number is part of an experiment."),
    cloud(131000, 500, "Something went wrong", "Message failed to send because of an unknown error. Try again later."),
    cloud(131005, 403, "Access denied", "Permission is either not granted or has been removed."),
    cloud(131008, 400, "Required parameter is missing", "The request is missing a required parameter."),
    cloud(131009, 400, "Parameter value is not valid", "One or more parameter values are invalid."),
    cloud(131016, 500, "Service unavailable", "A service is temporarily unavailable. Try again later."),
    cloud(131021, 400, "Recipient cannot be sender", "Recipient phone number cannot be the same as the sender's phone number."),
    cloud(131026, 400, "Message undeliverable", "Message Undeliverable."),
    cloud(131030, 400, "Recipient phone number not in allowed list", "Recipient phone number not in allowed list: Add recipient phone number to recipient list and try again."),
    cloud(131031, 403, "Business Account locked", "The WhatsApp Business Account associated with the app has been restricted or disabled."),
    cloud(131042, 400, "Business eligibility payment issue", "Message failed to send because there were one or more errors related to your payment method."),
    cloud(131043, 400, "Message expired", "Message expired before it could be delivered."),
    cloud(131045, 500, "Incorrect certificate", "Message failed to send due to a phone number registration error."),
    cloud(131047, 400, "Re-engagement message", "Message failed to send because more than 24 hours have passed since the customer last replied to this number."),
    cloud(131048, 400, "Spam rate limit hit", "Message failed to send because there are restrictions on how many messages can be sent from this phone number."),
    cloud(131049, 400, "This message was not delivered to maintain healthy ecosystem engagement.", "In order to maintain a healthy ecosystem engagement, the message failed to be delivered."),
    cloud(131050, 400, "User has stopped receiving marketing messages", "Unable to deliver the message. This recipient has chosen to stop receiving marketing messages on WhatsApp from your business."),
    cloud(131051, 400, "Unsupported message type", "Message type is not currently supported."),
    cloud(131052, 400, "Media download error", "Failed to download the media sent by the user."),
    cloud(131053, 400, "Media upload error", "Failed to upload the media used in the message."),
    cloud(131056, 400, "(Business Account, Consumer Account) pair rate limit hit", "Message failed to send because there were too many messages sent from this phone number to the same phone number in a short period of time."),
    cloud(131057, 500, "Account in maintenance mode", "Business Account is in maintenance mode."),
    cloud(131063, 400, "Messages cannot be sent to this country", "Sending to the country of the recipient is blocked for this business."),
    cloud(132000, 400, "Number of parameters does not match the expected number of params", "The number of variable parameter values included in the request did not match the number of variable parameters defined in the template."),
    cloud(132001, 404, "Template name does not exist in the translation", "The template does not exist in the specified language or the template has not been approved."),
    cloud(132005, 400, "Translated text too long", "The translated text is too long."),
    cloud(132007, 400, "Template content policy violated", "The template content violates a WhatsApp policy."),
    cloud(132012, 400, "Parameter format does not match format in the created template", "Variable parameter values formatted incorrectly."),
    cloud(132015, 400, "Template is paused", "Template is paused due to low quality so it cannot be sent in a template message."),
    cloud(132016, 400, "Template is disabled", "Template has been paused too many times due to low quality and is now permanently disabled."),
    cloud(132068, 400, "Flow is blocked", "Flow is in blocked state."),
    cloud(132069, 400, "Flow is throttled", "Flow is in throttled state and 10 messages using this flow were already sent in the last hour."),
    cloud(133004, 503, "Server Temporarily Unavailable", "Server is temporarily unavailable."),
    cloud(133010, 400, "Phone number not registered", "Phone number not registered on the WhatsApp Business Platform."),
    cloud(133016, 400, "Account register/deregister rate limit exceeded", "Registration or deregistration failed because there were too many attempts for this phone number in a short period of time."),
    cloud(135000, 400, "Generic user error", "Message failed to send because of an unknown error with your request parameters."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_listed_once_and_in_order() {
        assert!(CODES.windows(2).all(|pair| pair[0].code < pair[1].code));
    }

    #[test]
    fn all_permissions_look_like_200() {
        assert_eq!((lookup(273).code, lookup(273).status), (273, 403));
    }
}

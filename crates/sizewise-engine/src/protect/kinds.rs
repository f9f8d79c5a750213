//! Which kinds of personal data are told apart?

use sizewise_models::tagger::Entity;

/// The kinds of personal data, by the names that Presidio gives them where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PersonalData {
    /// A key, a token or a password.
    Secret,
    /// An e-mail address.
    EmailAddress,
    /// A link, or the name of a host.
    Url,
    /// An account number with a checksum that holds.
    IbanCode,
    /// An address of a machine.
    IpAddress,
    /// A card number with a checksum that holds.
    CreditCard,
    /// A social security number of the US.
    UsSsn,
    /// A number that another country gave to a person, with check digits that hold.
    NationalId,
    /// A driver's licence.
    DriverLicense,
    /// A date.
    DateTime,
    /// A telephone number, or any other run of seven or more digits.
    Number,
    /// A name of a person.
    Person,
    /// A country, a region, a city.
    Location,
    /// Street, house and postal code.
    Address,
    /// A company, an authority, a school.
    Organization,
    /// Nationality, religion or political group.
    Nationality,
    /// How old somebody is.
    Age,
    /// A form of address or a profession.
    Title,
    /// A postal code that stands alone.
    ZipCode,
}

impl PersonalData {
    /// The name that Presidio gives it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "SECRET",
            Self::EmailAddress => "EMAIL_ADDRESS",
            Self::Url => "URL",
            Self::IbanCode => "IBAN_CODE",
            Self::IpAddress => "IP_ADDRESS",
            Self::CreditCard => "CREDIT_CARD",
            Self::UsSsn => "US_SSN",
            Self::NationalId => "NATIONAL_ID",
            Self::DriverLicense => "US_DRIVER_LICENSE",
            Self::DateTime => "DATE_TIME",
            Self::Number => "PHONE_NUMBER",
            Self::Person => "PERSON",
            Self::Location => "LOCATION",
            Self::Address => "ADDRESS",
            Self::Organization => "ORGANIZATION",
            Self::Nationality => "NRP",
            Self::Age => "AGE",
            Self::Title => "TITLE",
            Self::ZipCode => "ZIP_CODE",
        }
    }

    /// What stands in its place, before the number.
    pub(super) fn placeholder(self) -> &'static str {
        match self {
            // It need not be one to be called.
            Self::Number => "NUMBER",
            Self::DriverLicense => "DRIVER_LICENSE",
            Self::Nationality => "NATIONALITY",
            kind => kind.name(),
        }
    }
}

impl From<Entity> for PersonalData {
    fn from(entity: Entity) -> Self {
        match entity {
            Entity::Person => Self::Person,
            Entity::Location => Self::Location,
            Entity::Address => Self::Address,
            Entity::Organization => Self::Organization,
            Entity::Nationality => Self::Nationality,
            Entity::DateTime => Self::DateTime,
            Entity::Age => Self::Age,
            Entity::Title => Self::Title,
            Entity::ZipCode => Self::ZipCode,
            Entity::Phone => Self::Number,
            Entity::DriverLicense => Self::DriverLicense,
        }
    }
}

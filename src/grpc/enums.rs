//! Conversion between domain enums and the contract's enums. Each pair of variants is listed, and the
//! compiler rejects a variant without a counterpart. So no value can be sent as UNSPECIFIED by mistake.

use leadsmith_proto as proto;

use crate::core::call::PrincipalKind;
use crate::core::role::Role;

/// A domain enum with a counterpart in the contract.
pub trait WireEnum: Sized {
    /// The number of the counterpart.
    fn to_wire(self) -> i32;

    /// The variant with this number; `None` for 0 (UNSPECIFIED) and for unknown numbers.
    fn from_wire(number: i32) -> Option<Self>;
}

/// Implements [`WireEnum`] for a domain enum and the generated enum, whose variants have the same names.
macro_rules! wire_enum {
    ($domain:ident = $wire:path { $($variant:ident),+ $(,)? }) => {
        impl $crate::grpc::enums::WireEnum for $domain {
            fn to_wire(self) -> i32 {
                use $wire as Wire;
                i32::from(match self { $(Self::$variant => Wire::$variant,)+ })
            }

            fn from_wire(number: i32) -> Option<Self> {
                use $wire as Wire;
                match Wire::try_from(number).ok()? {
                    Wire::Unspecified => None,
                    $(Wire::$variant => Some(Self::$variant),)+
                }
            }
        }
    };
}

pub(crate) use wire_enum;

wire_enum!(
    Role = proto::Role {
        Viewer,
        Sales,
        Admin
    }
);
wire_enum!(
    PrincipalKind = proto::PrincipalKind {
        Operator,
        ServiceAccount,
        CommandLine
    }
);

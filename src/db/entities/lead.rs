use std::collections::BTreeMap;

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::db::select::{Field, row_by_position};

/// Custom fields: texts by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct CustomFields(pub BTreeMap<String, String>);

impl Field for CustomFields {
    fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

row_by_position! {
    /// A lead.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "leads")]
    pub struct Model {
        pub seq: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub version: i64,
        pub state: String,
        pub first_name: String,
        pub last_name: String,
        pub company: String,
        pub email: String,
        pub phone: String,
        pub fax: String,
        pub vat_id: String,
        pub street: String,
        pub city: String,
        pub region: String,
        pub postal_code: String,
        pub country_code: String,
        pub language: String,
        pub owner_id: String,
        pub source: String,
        #[sea_orm(column_type = "JsonBinary")]
        pub custom_fields: CustomFields,
        pub last_name_key: String,
        pub company_key: String,
        pub email_key: String,
        pub deactivation_time: Option<DateTimeUtc>,
        #[sea_orm(column_type = "JsonBinary", nullable)]
        pub deactivation_actor: Option<Json>,
        pub deactivation_reason: Option<String>,
        pub conversion_time: Option<DateTimeUtc>,
        #[sea_orm(column_type = "JsonBinary", nullable)]
        pub conversion_actor: Option<Json>,
        pub conversion_order_id: Option<Uuid>,
        /// The client that it was joined to; `None` if it is its own client.
        pub conversion_client_id: Option<Uuid>,
        /// What that client got from it.
        #[sea_orm(column_type = "JsonBinary", nullable)]
        pub conversion_carried: Option<Json>,
        /// The leads that were joined to it.
        #[sea_orm(column_type = "JsonBinary", nullable)]
        pub joined_lead_ids: Option<Json>,
        pub create_time: DateTimeUtc,
        pub update_time: DateTimeUtc,
        pub erasure_time: Option<DateTimeUtc>,
        #[sea_orm(column_type = "JsonBinary", nullable)]
        pub erasure_actor: Option<Json>,
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

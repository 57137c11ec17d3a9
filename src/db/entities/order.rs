use sea_orm::entity::prelude::*;

use crate::db::select::row_by_position;

row_by_position! {
    /// An order with its items and actions.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "orders")]
    pub struct Model {
        pub seq: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub lead_id: Uuid,
        pub opportunity_id: Option<Uuid>,
        pub version: i64,
        pub state: String,
        #[sea_orm(column_type = "JsonBinary")]
        pub items: Json,
        #[sea_orm(column_type = "JsonBinary")]
        pub actions: Json,
        pub create_time: DateTimeUtc,
        pub update_time: DateTimeUtc,
        pub queue_id: Uuid,
        pub step: String,
        /// `None` for an order that was created by a version without queues.
        #[sea_orm(column_type = "JsonBinary", nullable)]
        pub plan: Option<Json>,
        /// The claims of its actions, by their keys; `None` if there are none.
        #[sea_orm(column_type = "JsonBinary", nullable)]
        pub claims: Option<Json>,
        /// The version for which the rows of its claimable actions were written; `None` or another one if a version
        /// without claims wrote it last.
        pub claims_version: Option<i64>,
        /// The client that its lead is to be joined to.
        pub client_id: Option<Uuid>,
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

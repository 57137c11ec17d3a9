use sea_orm::entity::prelude::*;

use crate::db::select::row_by_position;

row_by_position! {
    /// An entry of the history: an accepted change.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "history")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub lead_id: Uuid,
        pub subject: String,
        pub subject_id: Uuid,
        pub version: i64,
        pub time: DateTimeUtc,
        #[sea_orm(column_type = "JsonBinary")]
        pub actor: Json,
        pub rpc: String,
        #[sea_orm(column_type = "JsonBinary")]
        pub changes: Json,
        /// Nil if the call had none.
        pub request_id: Uuid,
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

use sea_orm::entity::prelude::*;

use crate::db::select::row_by_position;

row_by_position! {
    /// An attempt to run an action.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "action_runs")]
    pub struct Model {
        pub seq: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub order_id: Uuid,
        pub lead_id: Uuid,
        pub action: String,
        pub time: DateTimeUtc,
        #[sea_orm(column_type = "JsonBinary")]
        pub actor: Json,
        pub outcome: String,
        pub no_change: bool,
        pub automatic: bool,
        pub error_reason: String,
        pub error_message: String,
        pub kind: String,
        pub note: String,
        pub reference: String,
        pub step: String,
        pub claim_run_id: Option<Uuid>,
        pub expire_time: Option<DateTimeUtc>,
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

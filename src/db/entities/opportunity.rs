use sea_orm::entity::prelude::*;

use crate::db::select::row_by_position;

row_by_position! {
    /// An opportunity.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "opportunities")]
    pub struct Model {
        pub seq: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub lead_id: Uuid,
        pub version: i64,
        pub name: String,
        pub stage: String,
        pub state: String,
        #[sea_orm(column_type = "JsonBinary", nullable)]
        pub amount: Option<Json>,
        /// For the previous version of the service, which reads and writes this column; 0 if there is none.
        pub probability: i32,
        pub win_probability: Option<i32>,
        pub expected_close_date: Option<Date>,
        pub owner_id: String,
        pub next_step: String,
        pub description: String,
        pub close_time: Option<DateTimeUtc>,
        #[sea_orm(column_type = "JsonBinary", nullable)]
        pub close_actor: Option<Json>,
        pub close_reason: Option<String>,
        /// The stage in which it was closed.
        pub close_stage: Option<String>,
        pub create_time: DateTimeUtc,
        pub update_time: DateTimeUtc,
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(
        belongs_to = "super::lead::Entity",
        from = "Column::LeadId",
        to = "super::lead::Column::Id"
    )]
    Lead,
}

impl Related<super::lead::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Lead.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}

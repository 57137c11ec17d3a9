use sea_orm::entity::prelude::*;

use crate::db::select::row_by_position;

row_by_position! {
    /// A queue with its steps and templates of actions.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "order_queues")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub version: i64,
        pub name: String,
        pub name_key: String,
        #[sea_orm(column_type = "JsonBinary")]
        pub steps: Json,
        #[sea_orm(column_type = "JsonBinary")]
        pub actions: Json,
        pub archive_time: Option<DateTimeUtc>,
        pub create_time: DateTimeUtc,
        pub update_time: DateTimeUtc,
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

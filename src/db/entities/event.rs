use sea_orm::entity::prelude::*;

/// A change that is published to other systems.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "events")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub seq: i64,
    pub id: Uuid,
    pub lead_id: Uuid,
    pub r#type: String,
    pub subject_id: Uuid,
    pub version: i64,
    pub time: DateTimeUtc,
    #[sea_orm(column_type = "JsonBinary")]
    pub actor: Json,
    #[sea_orm(column_type = "JsonBinary")]
    pub record: Json,
    /// The transaction that wrote it; 0 for rows from before the column, and after a restore. Not used on SQLite.
    pub transaction_id: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

use sea_orm::entity::prelude::*;

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "service_accounts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub version: i64,
    pub name: String,
    pub role: String,
    pub disable_time: Option<DateTimeUtc>,
    pub create_time: DateTimeUtc,
    /// `None` for an account that was created by a version without it and has not changed since.
    pub update_time: Option<DateTimeUtc>,
    pub certificate_name: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

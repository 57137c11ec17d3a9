use sea_orm::entity::prelude::*;

/// An action that a worker can claim, now or when its claim expires.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "claimable_actions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub action: String,
    pub queue_id: Uuid,
    pub is_failed: bool,
    /// From when on it can be claimed. For an action without a claim a time long before.
    pub claim_time: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

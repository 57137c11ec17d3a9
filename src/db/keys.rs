//! Secret keys that all replicas share. The first replica that needs a key creates it, and the
//! database keeps it.

use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, EntityTrait};

use super::entities::server_key;
use super::{Db, Verdict};
use crate::error::{Error, Result};

impl Db {
    /// The shared key with this name, 256 bits.
    pub async fn shared_key(&self, name: &'static str) -> Result<[u8; 32]> {
        let stored = server_key::Entity::find_by_id(name)
            .one(self.read())
            .await?;
        let value = match stored {
            Some(row) => row.value,
            None => self.create_shared_key(name).await?,
        };
        let broken = |_| Error::internal(format!("the key {name:?} in server_keys is broken"));
        value.try_into().map_err(broken)
    }

    async fn create_shared_key(&self, name: &'static str) -> Result<Vec<u8>> {
        let new_key = crate::core::clock::random_256_bits().to_vec();
        self.write(move |tx| {
            Box::pin(async move {
                let mut first_wins = OnConflict::column(server_key::Column::Name);
                first_wins.do_nothing();
                let row = server_key::ActiveModel {
                    name: Set(name.to_owned()),
                    value: Set(new_key),
                };
                server_key::Entity::insert(row)
                    .on_conflict(first_wins)
                    .exec_without_returning(&**tx)
                    .await?;
                let stored = server_key::Entity::find_by_id(name).one(&**tx).await?;
                Ok(Verdict::Done(
                    stored.map(|row| row.value).unwrap_or_default(),
                ))
            })
        })
        .await
    }
}

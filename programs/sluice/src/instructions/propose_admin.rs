use anchor_lang::prelude::*;

use super::OnConfig;
use crate::events::announce;

/// Names the next admin, who takes over by `accept_admin`; zero takes the proposal back. Two steps, so that no
/// slip of a finger gives the deployment to a key that nobody holds.
pub(crate) fn handle(accounts: &OnConfig<'_>, admin: Pubkey) -> Result<()> {
    accounts.as_admin()?.pending_admin = admin;
    announce(&accounts.config)
}

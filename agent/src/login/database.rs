//! PostgreSQL's side: does the role get in, and if not, may we change that?

use std::time::Instant;

use crate::encode;
use crate::job::{ATTEMPT, patiently};
use crate::login::error::LoginError;
use crate::postgres::{self, DatabaseError, Login, Session};
use crate::role;
use crate::secret::Secret;

/// The logins to prove or to use.
#[derive(Debug)]
pub(crate) struct Database {
    /// The application's role with the new password.
    pub(crate) application: Login,
    /// The superuser of a Managed server.
    pub(crate) admin: Option<Login>,
}

/// What the server says to the new password.
#[derive(Debug)]
pub(crate) enum Found {
    /// The role gets in.
    Accepted(Session),
    /// The password is right, or the role is not there yet; `migrate` makes what is missing.
    Fresh,
    /// The role doesn't get in, and this superuser may change that.
    Differs(Session),
}

impl Database {
    fn failed(login: &Login) -> impl Fn(DatabaseError) -> LoginError {
        move |source| LoginError::Database { address: address(login), user: login.user.clone(), source }
    }

    /// Looks without changing anything.
    ///
    /// # Errors
    /// When a server is away until the deadline, or what is wrong is not ours to change.
    pub(crate) async fn check(&self, deadline: Instant) -> Result<Found, LoginError> {
        let Some(admin) = self.admin.as_ref() else {
            return Ok(Found::Accepted(Self::log_in(&self.application, deadline).await?));
        };
        let session = Self::log_in(admin, deadline).await?;
        let user = &self.application.user;
        if !role::exists(&session, user).await.map_err(Self::failed(admin))? {
            return Ok(Found::Fresh);
        }
        match Self::log_in(&self.application, deadline).await {
            Ok(session) => Ok(Found::Accepted(session)),
            // PostgreSQL looks for the database when the password was right.
            Err(LoginError::Database { source: DatabaseError::Missing(_), .. }) => Ok(Found::Fresh),
            Err(LoginError::Database { source: DatabaseError::Rejected(_), .. }) if admin.user != *user => {
                Ok(Found::Differs(session))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the role its new password and proves it.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn change(&self, admin: &Session, deadline: Instant) -> Result<(), LoginError> {
        let password: &Secret = self.application.password.as_ref().ok_or(LoginError::NoPassword("database"))?;
        role::set_password(admin, &self.application.user, password).await.map_err(Self::failed(&self.application))?;
        tracing::info!(role = self.application.user, "password changed");
        match Self::log_in(&self.application, deadline).await {
            Ok(_) | Err(LoginError::Database { source: DatabaseError::Missing(_), .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn log_in(login: &Login, deadline: Instant) -> Result<Session, LoginError> {
        patiently(deadline, async || postgres::connect(login, ATTEMPT).await.map_err(Self::failed(login))).await
    }

    /// Host, port and user for people.
    pub(crate) fn account(&self) -> String {
        format!("user {} of PostgreSQL at {}", self.application.user, address(&self.application))
    }
}

fn address(login: &Login) -> String {
    format!("{}:{}", encode::url_host(&login.host), login.port)
}

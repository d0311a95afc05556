//! What the image's revisions make and remove, and what of it should be there after each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::migrate::offline::Rendered;
use crate::sql::{self, Effect};

/// Something whose existence the catalogue shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Object {
    /// By its name.
    Table(String),
    /// By the names of table and column.
    Column(String, String),
    /// By its name.
    Type(String),
    /// By its name.
    Index(String),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(name) => write!(f, "table {name}"),
            Self::Column(table, column) => write!(f, "column {table}.{column}"),
            Self::Type(name) => write!(f, "type {name}"),
            Self::Index(name) => write!(f, "index {name}"),
        }
    }
}

/// Which objects should be there; of others nothing is known.
pub(crate) type State = BTreeMap<Object, bool>;

/// A revision, as far as its SQL can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision {
    /// Its name.
    pub(crate) name: String,
    /// Whether it does something else than making, removing and renaming what the catalogue
    /// shows, or may do so.
    pub(crate) opaque: bool,
    /// Whether its SQL is known at all.
    pub(crate) printed: bool,
    /// By what it is recognised. See [`crate::migrate::place`].
    pub(crate) evidence: BTreeSet<Object>,
}

/// Revisions in their order, with the states before, between and after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    /// Oldest first.
    pub(crate) revisions: Vec<Revision>,
    /// One more than there are revisions. Only what is evidence of some revision.
    pub(crate) states: Vec<State>,
}

impl History {
    /// Reads them.
    pub(crate) fn read(rendered: &[Rendered]) -> Self {
        let mut tape = Tape::default();
        let mut revisions = Vec::new();
        let mut reached = vec![tape.state.clone()];
        for one in rendered {
            let statements = one.sql.as_deref().map(sql::read).unwrap_or_default();
            let mut touched = BTreeSet::new();
            let mut opaque = one.sql.is_err();
            for statement in &statements {
                // Runs through whether the object is there or not, so it shows nothing.
                let lenient = ["IF NOT EXISTS", "IF EXISTS"].iter().any(|words| statement.text.contains(words));
                match tape.play(&statement.effect) {
                    Played::Objects(objects) if lenient => tape.unsure.extend(objects),
                    Played::Objects(objects) => touched.extend(objects),
                    Played::Labels => {}
                    Played::Unseen => opaque = true,
                }
            }
            revisions.push(Revision {
                name: one.revision.clone(),
                opaque,
                printed: one.sql.is_ok(),
                evidence: evidence(touched),
            });
            reached.push(tape.state.clone());
        }
        for revision in &mut revisions {
            revision.evidence.retain(|object| !tape.unsure.contains(object));
        }
        let all: BTreeSet<_> = revisions.iter().flat_map(|revision| revision.evidence.iter().cloned()).collect();
        let states = reached
            .into_iter()
            .map(|mut state| {
                // What a revision touches first was there if it is removed, and was not if it is made.
                let mut before = tape.before.clone();
                before.append(&mut state);
                before.retain(|object, _| all.contains(object));
                before
            })
            .collect();
        Self { revisions, states }
    }
}

/// Tables and columns; of a revision without any its types, else its indexes.
fn evidence(touched: BTreeSet<Object>) -> BTreeSet<Object> {
    let kinds: [fn(&Object) -> bool; 3] = [
        |object| matches!(object, Object::Table(_) | Object::Column(..)),
        |object| matches!(object, Object::Type(_)),
        |object| matches!(object, Object::Index(_)),
    ];
    let kind = kinds.into_iter().find(|kind| touched.iter().any(kind));
    touched.into_iter().filter(|object| kind.is_some_and(|kind| kind(object))).collect()
}

/// What an effect was to the catalogue.
enum Played {
    /// It touched these.
    Objects(Vec<Object>),
    /// It only changed labels, which say nothing: created and migrated databases differ in them.
    Labels,
    /// It can't be seen there.
    Unseen,
}

/// The statements so far.
#[derive(Debug, Default)]
struct Tape {
    state: State,
    before: State,
    indexes: BTreeMap<String, BTreeSet<Object>>,
    unsure: BTreeSet<Object>,
}

impl Tape {
    fn play(&mut self, effect: &Effect) -> Played {
        let column = |table: &String, column: &String| Object::Column(table.clone(), column.clone());
        let (removed, made) = match effect {
            Effect::CreateTable { name, columns } => {
                let columns = columns.iter().map(|name_of| column(name, name_of));
                (vec![], [Object::Table(name.clone())].into_iter().chain(columns).collect())
            }
            Effect::DropTable { name } => (self.with_parts(name), vec![]),
            Effect::RenameTable { from, to } => {
                let removed = self.with_parts(from);
                let renamed = |object: &Object| match object {
                    Object::Column(_, name) => Some(column(to, name)),
                    _ => None,
                };
                let made = [Object::Table(to.clone())].into_iter().chain(removed.iter().filter_map(renamed)).collect();
                let indexes = self.indexes.remove(from).unwrap_or_default();
                let removed = removed.into_iter().filter(|object| !indexes.contains(object)).collect();
                self.indexes.insert(to.clone(), indexes);
                (removed, made)
            }
            Effect::AddColumn { table, column: name } => (vec![], vec![column(table, name)]),
            Effect::DropColumn { table, column: name } => (vec![column(table, name)], vec![]),
            Effect::RenameColumn { table, from, to } => (vec![column(table, from)], vec![column(table, to)]),
            Effect::CreateIndex { name, table } => {
                let index = Object::Index(name.clone());
                self.indexes.entry(table.clone()).or_default().insert(index.clone());
                (vec![], vec![index])
            }
            Effect::DropIndex { name } => (vec![Object::Index(name.clone())], vec![]),
            Effect::CreateType { name, .. } => (vec![], vec![Object::Type(name.clone())]),
            Effect::AddLabel { .. } | Effect::RenameLabel { .. } => return Played::Labels,
            Effect::Rowless | Effect::Other | Effect::Unreadable => return Played::Unseen,
        };
        for (objects, there) in [(&removed, false), (&made, true)] {
            for object in objects {
                self.before.entry(object.clone()).or_insert(!there);
                self.state.insert(object.clone(), there);
            }
        }
        Played::Objects(removed.into_iter().chain(made).collect())
    }

    /// A table, its columns and its indexes, as far as they are there and known.
    fn with_parts(&self, table: &str) -> Vec<Object> {
        let of_table = |object: &Object| matches!(object, Object::Column(of, _) if of == table);
        let columns = self.state.iter().filter(|(object, there)| **there && of_table(object)).map(|(object, _)| object);
        let indexes = self.indexes.get(table).into_iter().flatten();
        [Object::Table(table.to_owned())].into_iter().chain(columns.chain(indexes).cloned()).collect()
    }
}

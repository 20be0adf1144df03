-- Large creates go in by slices, each in a transaction of its own. Until the last one is there their
-- batches are dead, as those of failed attempts: no reader, claim or count knows of them. A row here
-- keeps them from being swept meanwhile; when it is gone, whatever the reason, they are.
CREATE TABLE arrival (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused
    heard_at INTEGER NOT NULL -- when its newest slice came
);
ALTER TABLE batch ADD COLUMN arrival_id INTEGER; -- null: all of it has arrived

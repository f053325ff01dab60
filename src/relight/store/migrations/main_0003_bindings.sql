-- Which workers of a function a call is for: those with its values of a class's parameters, and its options.

ALTER TABLE calls ADD COLUMN binding TEXT NOT NULL DEFAULT '';

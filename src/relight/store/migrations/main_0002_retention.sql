-- What retention asks: which calls ended before a time, and whether anything still names a blob.

ALTER TABLE versions ADD COLUMN code TEXT NOT NULL DEFAULT '';
UPDATE versions SET code = json_extract(manifest, '$.code.digest');
CREATE INDEX versions_by_code ON versions (code);
CREATE INDEX calls_by_end_time ON calls (ended_at) WHERE sequence > 0;
CREATE INDEX calls_by_payload_blob ON calls (payload_blob) WHERE payload_blob <> '';
CREATE INDEX calls_by_result_blob ON calls (result_blob) WHERE result_blob <> '';

-- budgets: every budget
SELECT workspace, app, nanos, warn_percent FROM budgets ORDER BY workspace, app;

-- set_budget: how much may be spent in a month
INSERT INTO budgets (workspace, app, nanos, warn_percent) VALUES (:workspace, :app, :nanos, :warn_percent)
ON CONFLICT (workspace, app) DO UPDATE SET nanos = excluded.nanos, warn_percent = excluded.warn_percent;

-- remove_budget: any amount may be spent
DELETE FROM budgets WHERE workspace = :workspace AND app = :app;

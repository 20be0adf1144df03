-- work_ready: whether a task is ready at the frontier of some running job
SELECT EXISTS (SELECT 1 FROM lane WHERE live = 1 AND ready > 0);

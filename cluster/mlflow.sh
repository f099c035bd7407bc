#!/usr/bin/env bash
# MLflow's server on the head, for the head alone: see it by `ray attach CLUSTER.yaml -p 5000`.
# Its store is on the head's own disk, since SQLite must not lie on a network's file system; what is
# in it can be made again (`soundsweep sync RUN`). For a database that stays, name it without its
# password (that is PGPASSWORD, or ~/.pgpass): MLFLOW_BACKEND_STORE_URI=postgresql://me@host/mlflow
set -euo pipefail
curl --fail --silent --output /dev/null http://127.0.0.1:5000/health && exit
mkdir -p ~/mlflow "$SOUNDSWEEP_STORAGE"
# Without jobs of its own: eight more processes, for evaluations that nobody here asks for.
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false setsid nohup mlflow server --host 127.0.0.1 --port 5000 --workers 1 \
    --backend-store-uri "${MLFLOW_BACKEND_STORE_URI:-sqlite:///$HOME/mlflow/mlflow.db}" \
    --artifacts-destination "$SOUNDSWEEP_STORAGE/mlflow" </dev/null >~/mlflow/log 2>&1 &

# The environment of every node of a cluster; ~/.bashrc reads it (cluster.yaml, onprem.yaml).
export PATH="$HOME/soundsweep/.venv/bin:$PATH"
export SOUNDSWEEP_STORAGE=/shared/runs              # all nodes see this folder
export MLFLOW_TRACKING_URI=http://127.0.0.1:5000    # the head's own; of another server its address
export RAY_AUTH_MODE=token                          # the token is ~/.ray/auth_token
export RAY_JOB_STOP_WAIT_TIME_S=600                 # `ray job stop` lets an epoch end
export RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true

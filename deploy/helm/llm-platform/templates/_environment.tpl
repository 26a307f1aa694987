{{/* The settings of all pods, runs included: deployments differ in values and in nothing else. */}}
{{- define "lp.environment" -}}
LLM_PLATFORM_DEPLOYMENT: {{ .Values.deployment | quote }}
LLM_PLATFORM_NAMESPACE: {{ .Values.namespace | quote }}
LLM_PLATFORM_SAMPLES: "false"
LLM_PLATFORM_IMAGE_DIGEST: {{ .Values.image.digest | quote }}
{{- if .Values.attestations.keysConfigMap }}
LLM_PLATFORM_ATTESTATION_KEYS: /etc/llm-platform/attestation-keys
LLM_PLATFORM_ATTESTATION_APPROVERS: {{ join "," .Values.attestations.approvers | quote }}
{{- end }}
{{- if .Values.adapters.keysConfigMap }}
LLM_PLATFORM_ADAPTER_KEYS: /etc/llm-platform/adapter-keys
LLM_PLATFORM_NIM_VERIFIER_IMAGE: {{ include "lp.image" . | quote }}
{{- end }}
{{- if .Values.signingKeySecret.name }}
LLM_PLATFORM_SIGNING_KEY: /run/secrets/llm-platform/signing-key/signing.pem
{{- end }}
LLM_PLATFORM_ENCRYPTED: {{ .Values.encryption.enabled | quote }}
LLM_PLATFORM_ENCRYPTED_DISK: {{ .Values.encryption.stateVolume | quote }}
LLM_PLATFORM_APPLICATIONS: {{ .Values.applications | quote }}
LLM_PLATFORM_STATE: /state
LLM_PLATFORM_CATALOG: {{ .Values.catalog.address | quote }}
{{- if .Values.catalog.passwordSecret.name }}
LLM_PLATFORM_CATALOG_PASSWORD_FILE: /run/secrets/llm-platform/catalog/password
{{- end }}
{{- with .Values.upstream }}
LLM_PLATFORM_UPSTREAM: {{ . | quote }}
{{- end }}
{{- with .Values.upstreamCatalog.address }}
LLM_PLATFORM_UPSTREAM_CATALOG: {{ . | quote }}
{{- end }}
{{- if .Values.upstreamCatalog.passwordSecret.name }}
LLM_PLATFORM_UPSTREAM_CATALOG_PASSWORD_FILE: /run/secrets/llm-platform/upstream-catalog/password
{{- end }}
LLM_PLATFORM_DAGSTER_STORAGE: {{ .Values.dagsterStorage.address | quote }}
{{- if .Values.dagsterStorage.passwordSecret.name }}
LLM_PLATFORM_DAGSTER_STORAGE_PASSWORD_FILE: /run/secrets/llm-platform/dagster-storage/password
{{- end }}
LLM_PLATFORM_DAGSTER_INSTANCE: /etc/llm-platform/instance/instance.yaml
LLM_PLATFORM_DATA_ROOT: {{ .Values.data.root | quote }}
LLM_PLATFORM_S3_REGION: {{ .Values.data.region | quote }}
LLM_PLATFORM_S3_ENDPOINT: {{ .Values.data.endpoint | quote }}
LLM_PLATFORM_S3_URL_STYLE: {{ .Values.data.urlStyle | quote }}
LLM_PLATFORM_S3_USE_SSL: {{ .Values.data.useSsl | quote }}
LLM_PLATFORM_WAREHOUSES: {{ include "lp.warehouses" . | quote }}
LLM_PLATFORM_SENSORS: {{ .Values.sensors | quote }}
LLM_PLATFORM_NIM_POOL_LIMITS: {{ toJson .Values.runs.poolLimits | quote }}
{{- if .Values.models.lock }}
LLM_PLATFORM_MODELS_LOCK: /etc/llm-platform/models/models.lock.yaml
{{- end }}
{{- with .Values.models.namespace }}
LLM_PLATFORM_NIM_CLUSTER_NAMESPACE: {{ . | quote }}
{{- end }}
{{- if .Values.training.enabled }}
LLM_PLATFORM_TRAINING_IMAGE: {{ .Values.training.image | quote }}
LLM_PLATFORM_TRAINING_NAMESPACE: {{ .Release.Namespace | quote }}
LLM_PLATFORM_TRAINING_CLAIM: {{ include "lp.claim" . | quote }}
LLM_PLATFORM_TRAINING_ACCOUNT: {{ include "lp.name" . }}-plain
LLM_PLATFORM_TRAINING_GPUS: {{ int64 .Values.training.gpus | quote }}
{{- end }}
{{- if .Values.proxy.enabled }}
LLM_PLATFORM_UI_URL: {{ printf "https://%s" .Values.proxy.hosts.launch | quote }}
{{- if .Values.review.enabled }}
LLM_PLATFORM_REVIEW_URL: {{ printf "https://%s" .Values.proxy.hosts.review | quote }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
LLM_PLATFORM_{{ upper $name }}: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}

{{/* What Dagster's instance has beyond the shipped dagster.yaml. A run's pod is as hardened as the code location's. */}}
{{- define "lp.instance" -}}
concurrency:
  runs: {max_concurrent_runs: {{ int64 .Values.runs.maxConcurrent }}}
  # One step at a time talks to a model, unless runs.poolLimits allows more.
  pools: {default_limit: 1}
run_monitoring:
  enabled: true
  start_timeout_seconds: {{ int64 .Values.runs.startSeconds }}
  poll_interval_seconds: {{ int64 .Values.runs.pollSeconds }}
  max_resume_run_attempts: 0
  # A run whose pod is gone gives its place in the pool of its model back.
  free_slots_after_run_end_seconds: {{ int64 .Values.runs.pollSeconds }}
run_retries:
  enabled: {{ gt (int .Values.runs.retries) 0 }}
  max_retries: {{ int64 .Values.runs.retries }}
  # A gate that failed would fail again, and be paid for again.
  retry_on_asset_or_op_failure: false
retention:
  sensor: {purge_after_days: {{ int64 .Values.runs.keepTicksDays }}}
  schedule: {purge_after_days: {{ int64 .Values.runs.keepTicksDays }}}
# What runs print is read by `kubectl logs` and whoever collects it; documents are in none of it.
compute_logs:
  module: dagster.core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
{{- end }}

{{- define "lp.launcher" -}}
run_launcher:
  module: dagster_k8s
  class: K8sRunLauncher
  config:
    service_account_name: {{ include "lp.name" . }}{{ if .Values.training.enabled }}-trainer{{ end }}
    job_namespace: {{ .Release.Namespace }}
    job_image: {{ include "lp.image" . }}
    image_pull_policy: {{ .Values.image.pullPolicy }}
    # Not mounted: pods have the file under /etc/llm-platform, and make DAGSTER_HOME of it.
    instance_config_map: {{ include "lp.name" . }}-instance
    load_incluster_config: true
    fail_pod_on_run_failure: true
    env_config_maps: [{{ include "lp.name" . }}-environment]
    labels:
      app.kubernetes.io/instance: {{ .Release.Name | quote }}
      {{- include "lp.sees" . | nindent 6 }}
    # A tag of a run could replace its image or its security context; of such a tag only what it asks of a node counts.
    only_allow_user_defined_k8s_config_fields:
      container_config: {resources: true}
    only_allow_user_defined_env_vars: []
    run_k8s_config:
      container_config:
        {{- with include "lp.secretEnvironment" . | trim }}
        env:
          {{- . | nindent 10 }}
        {{- end }}
        volume_mounts:
          {{- range fromYamlArray (include "lp.mounts" .) }}
          - {name: {{ .name }}, mount_path: {{ .mountPath }}{{ if .readOnly }}, read_only: true{{ end }}}
          {{- end }}
        resources:
          {{- toYaml .Values.runs.resources | nindent 10 }}
        security_context:
          allow_privilege_escalation: false
          read_only_root_filesystem: true
          run_as_non_root: true
          capabilities: {drop: [ALL]}
          seccomp_profile: {type: RuntimeDefault}
      pod_spec_config:
        automount_service_account_token: {{ .Values.training.enabled }}
        enable_service_links: false
        termination_grace_period_seconds: 60
        {{- with .Values.runs.priorityClass }}
        priority_class_name: {{ . | quote }}
        {{- end }}
        {{- with .Values.runs.nodeSelector }}
        node_selector: {{ toJson . }}
        {{- end }}
        {{- with .Values.runs.tolerations }}
        tolerations: {{ toJson . }}
        {{- end }}
        security_context:
          run_as_non_root: true
          run_as_user: 10001
          run_as_group: 10001
          fs_group: 10001
          fs_group_change_policy: OnRootMismatch
          seccomp_profile: {type: RuntimeDefault}
        volumes:
          {{- include "lp.volumes" . | nindent 10 }}
      job_spec_config:
        ttl_seconds_after_finished: {{ int64 .Values.runs.keepJobsSeconds }}
        backoff_limit: 0
{{- end }}

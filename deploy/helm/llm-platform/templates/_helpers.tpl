{{/* Names, labels, and what all pods of the platform have alike: a run's pod is made of the same parts (instance.yaml). */}}

{{- define "lp.name" -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{- end }}

{{- define "lp.labels" -}}
app.kubernetes.io/name: llm-platform
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* What a migration needs is there before it, and pods of this version after it, where Argo CD applies the chart, too: it knows no
     first installation, and would begin with the migration. A claim may wait for its first pod, so it goes with that. */}}
{{- define "lp.first" -}}
argocd.argoproj.io/sync-wave: "-2"
{{- end }}

{{- define "lp.hook" -}}
helm.sh/hook: post-install,pre-upgrade
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
argocd.argoproj.io/hook: Sync
argocd.argoproj.io/sync-wave: "-1"
{{- end }}

{{- define "lp.selector" -}}
app.kubernetes.io/name: llm-platform
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Pods that see documents carry this label; the policies that bound them select it. */}}
{{- define "lp.sees" -}}
llm-platform/sees: documents
llm-platform/release: {{ .Release.Name | quote }}
{{- end }}

{{- define "lp.image" -}}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{- end }}

{{- define "lp.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "lp.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "lp.claim" -}}{{ .Values.state.claim | default (printf "%s-state" (include "lp.name" .)) }}{{- end }}

{{/* Secrets that become files: name under /run/secrets/llm-platform → Secret, key, and the file's name. */}}
{{- define "lp.secretFiles" -}}
{{- $found := dict }}
{{- with .Values.catalog.passwordSecret }}{{ if .name }}{{ $_ := set $found "catalog" . }}{{ end }}{{ end }}
{{- with .Values.upstreamCatalog.passwordSecret }}{{ if .name }}{{ $_ := set $found "upstream-catalog" . }}{{ end }}{{ end }}
{{- with .Values.dagsterStorage.passwordSecret }}{{ if .name }}{{ $_ := set $found "dagster-storage" . }}{{ end }}{{ end }}
{{- range $name, $one := .Values.warehouses }}{{ with $one.passwordSecret }}{{ $_ := set $found (printf "warehouse-%s" $name) . }}{{ end }}{{ end }}
{{- with .Values.signingKeySecret }}{{ if .name }}{{ $_ := set $found "signing-key" (dict "name" .name "key" .key "file" "signing.pem") }}{{ end }}{{ end }}
{{- toJson $found }}
{{- end }}

{{- define "lp.warehouses" -}}
{{- $found := dict }}
{{- range $name, $one := .Values.warehouses }}
{{- $address := $one.address }}
{{- if $one.passwordSecret }}
{{- $word := ternary (ternary "&" "?" (contains "?" $address)) " " (contains "://" $address) }}
{{- $address = printf "%s%spassword_file=/run/secrets/llm-platform/warehouse-%s/password" $address $word $name }}
{{- end }}
{{- $_ := set $found $name $address }}
{{- end }}
{{- toJson $found }}
{{- end }}

{{- define "lp.volumes" -}}
- name: state
  persistentVolumeClaim: {claimName: {{ include "lp.claim" . | quote }}}
- name: tmp
  emptyDir: {sizeLimit: 4Gi}
- name: instance
  configMap: {name: {{ include "lp.name" . }}-{{ if .once }}migrate{{ else }}instance{{ end }}}
{{- range $name, $secret := fromJson (include "lp.secretFiles" .) }}
- name: secret-{{ $name }}
  secret:
    secretName: {{ $secret.name | quote }}
    defaultMode: 0440
    items: [{key: {{ $secret.key | default "password" | quote }}, path: {{ $secret.file | default "password" }}}]
{{- end }}
{{- if .Values.models.lock }}
- name: models
  configMap: {name: {{ include "lp.name" . }}-{{ if .once }}migrate{{ else }}models{{ end }}}
{{- end }}
{{- with .Values.attestations.keysConfigMap }}
- name: attestation-keys
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- with .Values.adapters.keysConfigMap }}
- name: adapter-keys
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "lp.mounts" -}}
- {name: state, mountPath: /state}
- {name: tmp, mountPath: /tmp}
- {name: instance, mountPath: /etc/llm-platform/instance, readOnly: true}
{{- range $name, $secret := fromJson (include "lp.secretFiles" .) }}
- {name: secret-{{ $name }}, mountPath: /run/secrets/llm-platform/{{ $name }}, readOnly: true}
{{- end }}
{{- if .Values.models.lock }}
- {name: models, mountPath: /etc/llm-platform/models, readOnly: true}
{{- end }}
{{- if .Values.attestations.keysConfigMap }}
- {name: attestation-keys, mountPath: /etc/llm-platform/attestation-keys, readOnly: true}
{{- end }}
{{- if .Values.adapters.keysConfigMap }}
- {name: adapter-keys, mountPath: /etc/llm-platform/adapter-keys, readOnly: true}
{{- end }}
{{- end }}

{{- define "lp.secretEnvironment" -}}
{{- with .Values.data.keySecret }}{{ if .name }}
- name: LLM_PLATFORM_S3_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .keyId | quote }}}}
- name: LLM_PLATFORM_S3_SECRET
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .secret | quote }}}}
{{- end }}{{ end }}
{{- with .Values.models.apiKeySecret }}{{ if .name }}
- name: LLM_PLATFORM_NIM_API_KEY
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- end }}{{ end }}
{{- range $name, $one := .Values.secretSettings }}
- name: LLM_PLATFORM_{{ upper $name }}
  valueFrom: {secretKeyRef: {name: {{ $one.name | quote }}, key: {{ $one.key | quote }}}}
{{- end }}
{{- end }}

{{- define "lp.checksum" -}}
checksum/settings: {{ list (include "lp.environment" .) (include "lp.instance" .) (include "lp.launcher" .) .Values.models.lock | toJson | sha256sum }}
{{- end }}

{{/* A pod of the platform. root, component, args, resources, and optionally port, probe, account, token, environment,
     volumes, mounts, grace. */}}
{{- define "lp.podTemplate" -}}
metadata:
  labels:
    {{- include "lp.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
    {{- include "lp.sees" .root | nindent 4 }}
  annotations:
    {{- include "lp.checksum" .root | nindent 4 }}
spec:
  serviceAccountName: {{ include "lp.name" .root }}{{ if .token }}-launcher{{ end }}
  automountServiceAccountToken: {{ .token | default false }}
  enableServiceLinks: false
  {{- if .once }}
  restartPolicy: Never
  {{- end }}
  terminationGracePeriodSeconds: {{ .grace | default 30 }}
  securityContext:
    {{- include "lp.podSecurity" .root | nindent 4 }}
  containers:
    - name: {{ .component }}
      image: {{ include "lp.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{ toJson .args }}
      {{- $env := list }}
      {{- if .once }}
      {{- range $name, $value := fromYaml (include "lp.environment" .root) }}{{ $env = append $env (dict "name" $name "value" $value) }}{{ end }}
      {{- else }}
      envFrom:
        - configMapRef: {name: {{ include "lp.name" .root }}-environment}
      {{- end }}
      {{- with include "lp.secretEnvironment" .root | trim }}{{ $env = concat $env (fromYamlArray .) }}{{ end }}
      {{- with .environment }}{{ $env = concat $env . }}{{ end }}
      {{- with $env }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .port }}
      ports: [{name: main, containerPort: {{ . }}, protocol: TCP}]
      {{- end }}
      {{- with .probes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      securityContext:
        {{- include "lp.containerSecurity" .root | nindent 8 }}
      volumeMounts:
        {{- include "lp.mounts" .root | nindent 8 }}
        {{- with .mounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    {{- include "lp.volumes" (dict "Values" .root.Values "Release" .root.Release "once" .once) | nindent 4 }}
    {{- with .volumes }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end }}

{{- define "lp.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "lp.name" .root }}-{{ .component }}
  labels:
    {{- include "lp.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  {{- if not .scaled }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  {{- if .alone }}
  strategy: {type: Recreate}
  {{- end }}
  selector:
    matchLabels:
      {{- include "lp.selector" . | nindent 6 }}
  template:
    {{- include "lp.podTemplate" . | nindent 4 }}
{{- end }}

{{- define "lp.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "lp.name" .root }}-{{ .component }}
  labels:
    {{- include "lp.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  selector:
    {{- include "lp.selector" . | nindent 4 }}
  ports: [{name: main, port: {{ .port }}, targetPort: main, protocol: TCP}]
{{- end }}

{{/* Nothing in a cluster that is older than the interface. */}}
{{- define "lp.budget" -}}
{{- if .root.Capabilities.APIVersions.Has "policy/v1" }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "lp.name" .root }}-{{ .component }}
  labels:
    {{- include "lp.labels" .root | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "lp.selector" . | nindent 6 }}
{{- end }}
{{- end }}

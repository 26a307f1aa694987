{{/* What no schema can say in words that help: each line says what was found and what to do. */}}
{{- define "lp.checks" -}}
{{- $wrong := list }}
{{- with .Values }}
{{- if not .image.repository }}{{ $wrong = append $wrong "image.repository is empty: name the image that `make image` pushed, without tag." }}{{ end }}
{{- if not (regexMatch "^sha256:[0-9a-f]{64}$" .image.digest) }}{{ $wrong = append $wrong (printf "image.digest is %q: give sha256: and 64 hexadecimal digits, as `make image` prints it; a tag may be another image tomorrow." .image.digest) }}{{ end }}
{{- if not (hasPrefix "postgres:" .catalog.address) }}{{ $wrong = append $wrong (printf "catalog.address is %q: give postgres: and libpq's words, e.g. postgres:host=db dbname=lake user=lake." .catalog.address) }}{{ end }}
{{- if not (regexMatch "^postgres(ql)?://[^/]+/.+" .dagsterStorage.address) }}{{ $wrong = append $wrong (printf "dagsterStorage.address is %q: give postgresql://user@host:port/database." .dagsterStorage.address) }}{{ end }}
{{- range $place, $text := dict "catalog.address" .catalog.address "upstreamCatalog.address" .upstreamCatalog.address "dagsterStorage.address" .dagsterStorage.address }}
{{- if regexMatch "(password\\s*=|://[^/@:]*:[^/@]*@)" $text }}{{ $wrong = append $wrong (printf "%s holds a password: values are kept in clear; put it into a Secret and name that in passwordSecret." $place) }}{{ end }}
{{- end }}
{{- range $name, $one := .warehouses }}
{{- if regexMatch "(password\\s*=|://[^/@:]*:[^/@]*@)" $one.address }}{{ $wrong = append $wrong (printf "warehouses.%s.address holds a password: values are kept in clear; put it into a Secret and name that in passwordSecret." $name) }}{{ end }}
{{- end }}
{{- if not (hasPrefix "s3://" .data.root) }}{{ $wrong = append $wrong (printf "data.root is %q: give s3://bucket/prefix; a pod's disk is gone with the pod." .data.root) }}{{ end }}
{{- if eq .namespace .upstream }}{{ $wrong = append $wrong (printf "namespace and upstream are both %q: a branch writes a namespace of its own." .namespace) }}{{ end }}
{{- if and .upstream .sensors }}{{ $wrong = append $wrong "sensors is true on a branch (upstream is set): it would answer every new document again; set sensors to false." }}{{ end }}
{{- if .proxy.enabled }}
{{- if not (hasPrefix "https://" .proxy.issuer) }}{{ $wrong = append $wrong (printf "proxy.issuer is %q: name the identity provider, https://…; without the proxy, set proxy.enabled to false and reach the pages by kubectl port-forward." .proxy.issuer) }}{{ end }}
{{- if not .proxy.secret }}{{ $wrong = append $wrong "proxy.secret is empty: name the Secret with client-secret and cookie-secret." }}{{ end }}
{{- $needed := dict "launch" true "view" .viewer.enabled "review" .review.enabled }}
{{- range $page, $host := .proxy.hosts }}
{{- if and (index $needed $page) (not $host) }}{{ $wrong = append $wrong (printf "proxy.hosts.%s is empty: name the host under which people open that page." $page) }}{{ end }}
{{- end }}
{{- if not .network.identityProvider.to }}{{ if .network.enabled }}{{ $wrong = append $wrong "network.identityProvider.to is empty: name where the identity provider is, or nobody can sign in." }}{{ end }}{{ end }}
{{- end }}
{{- if not (regexMatch "@sha256:[0-9a-f]{64}$" .proxy.image) }}{{ $wrong = append $wrong (printf "proxy.image is %q: name it by digest, repository@sha256:…." .proxy.image) }}{{ end }}
{{- if .network.enabled }}
{{- if not .network.kubernetesApi.cidrs }}{{ $wrong = append $wrong "network.kubernetesApi.cidrs is empty: name the addresses of the API server (kubectl get endpoints kubernetes), or no run can be launched." }}{{ end }}
{{- range $name, $one := .network.egress }}
{{- if not $one.to }}{{ $wrong = append $wrong (printf "network.egress.%s.to is empty, which would mean everywhere: name peers as a NetworkPolicy does." $name) }}{{ end }}
{{- range $one.to }}
{{- $cidr := dig "ipBlock" "cidr" "" . }}
{{- if or (hasSuffix "/0" $cidr) (eq (toJson .) "{}") (eq (toJson .) "{\"namespaceSelector\":{}}") }}{{ $wrong = append $wrong (printf "network.egress.%s.to names everywhere (%s): documents could leave by it; name one network." $name (toJson .)) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .training.enabled (not (regexMatch "@sha256:[0-9a-f]{64}$" .training.image)) }}{{ $wrong = append $wrong (printf "training.image is %q: name it by digest, repository@sha256:…." .training.image) }}{{ end }}
{{- if and .capacity.enabled (gt (int .capacity.productionGpus) (int .capacity.gpus)) }}{{ $wrong = append $wrong (printf "capacity.productionGpus is %v of %v: production cannot be guaranteed more GPUs than there are." .capacity.productionGpus .capacity.gpus) }}{{ end }}
{{- if and .quota.enabled (or (not .quota.cpu) (not .quota.memory) (not .quota.pods)) }}{{ $wrong = append $wrong "quota is enabled without cpu, memory and pods: name all three." }}{{ end }}
{{- if and (eq .state.accessMode "ReadWriteOnce") (gt (int .runs.maxConcurrent) 1) (ne .deployment "single-node") }}{{ $wrong = append $wrong "state.accessMode is ReadWriteOnce: pods of other nodes could not mount it; use a class with ReadWriteMany, or the profile single-node." }}{{ end }}
{{- if and .encryption.enabled (not .encryption.stateVolume) }}{{ $wrong = append $wrong "encryption.enabled is true and encryption.stateVolume is not: journals and cards on the state volume hold text; name a storage class that encrypts in state.storageClass, and set encryption.stateVolume to true." }}{{ end }}
{{- if and .serve.enabled (not .serve.callersSecret) }}{{ $wrong = append $wrong "serve.callersSecret is empty: name the Secret with the file of callers, or nobody could ask." }}{{ end }}
{{- if and .serve.enabled (eq .serve.autoscaling "keda") (not .serve.kedaQuery) }}{{ $wrong = append $wrong "serve.kedaQuery is empty: KEDA needs the PromQL that counts requests." }}{{ end }}
{{- range $entry, $objects := .models.objects }}
{{- range $objects }}
{{- range regexFindAll "\"image\":\"[^\"]+\"" (toJson .) -1 }}
{{- if not (contains "@sha256:" .) }}{{ $wrong = append $wrong (printf "models.objects.%s has an image without digest (%s): render it anew, `llm-platform nim render %s --values FILE`." $entry . $entry) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if $wrong }}{{ fail (printf "\nThese values cannot be installed:\n- %s" (join "\n- " $wrong)) }}{{ end }}
{{- end }}

{{/* What no schema can say in words that help: each line says what was found and what to do. */}}
{{- define "lp.checks" -}}
{{- $wrong := list }}
{{- with .Values }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $.Release.Name) }}{{ $wrong = append $wrong (printf "the release is called %q: Services are called like it, so give small letters, digits and dashes, and a letter first." $.Release.Name) }}{{ end }}
{{- if not .image.repository }}{{ $wrong = append $wrong "image.repository is empty: name the image that `make image` pushed, without tag." }}{{ end }}
{{- if regexMatch "(://|@|:[^/]*$)" .image.repository }}{{ $wrong = append $wrong (printf "image.repository is %q: name it without scheme, tag and digest, e.g. registry.example.org/llm-platform." .image.repository) }}{{ end }}
{{- if not (regexMatch "^sha256:[0-9a-f]{64}$" .image.digest) }}{{ $wrong = append $wrong (printf "image.digest is %q: give sha256: and 64 hexadecimal digits, as `make image` prints it; a tag may be another image tomorrow." .image.digest) }}{{ end }}
{{- $password := "(?i)(password\\s*=|://[^/?#\\s]*:[^/?#\\s]*@)" }}
{{- if not (or (hasPrefix "postgres:" .catalog.address) (regexMatch $password .catalog.address)) }}{{ $wrong = append $wrong (printf "catalog.address is %q: give postgres: and libpq's words, e.g. postgres:host=db dbname=lake user=lake." .catalog.address) }}{{ end }}
{{- with .upstreamCatalog.address }}
{{- if not (or (hasPrefix "postgres:" .) (regexMatch $password .)) }}{{ $wrong = append $wrong (printf "upstreamCatalog.address is %q: give postgres: and libpq's words, as a role that only reads." .) }}{{ end }}
{{- end }}
{{- if not (or (regexMatch "^postgres(ql)?://[^/]+/.+" .dagsterStorage.address) (regexMatch $password .dagsterStorage.address)) }}{{ $wrong = append $wrong (printf "dagsterStorage.address is %q: give postgresql://user@host:port/database." .dagsterStorage.address) }}{{ end }}
{{- range $place, $text := dict "catalog.address" .catalog.address "upstreamCatalog.address" .upstreamCatalog.address "dagsterStorage.address" .dagsterStorage.address }}
{{- if regexMatch $password $text }}{{ $wrong = append $wrong (printf "%s holds a password: values are kept in clear; put it into a Secret and name that in passwordSecret." $place) }}{{ end }}
{{- end }}
{{- range $name, $one := .warehouses }}
{{- if regexMatch $password $one.address }}{{ $wrong = append $wrong (printf "warehouses.%s.address holds a password: values are kept in clear; put it into a Secret and name that in passwordSecret." $name) }}{{ end }}
{{- end }}
{{- if not (regexMatch "^s3://[a-z0-9]\\S*$" .data.root) }}{{ $wrong = append $wrong (printf "data.root is %q: give s3://bucket/prefix; a pod's disk is gone with the pod." .data.root) }}{{ end }}
{{- if contains "/" .data.endpoint }}{{ $wrong = append $wrong (printf "data.endpoint is %q: give host and port without a scheme; data.useSsl says whether it is https." .data.endpoint) }}{{ end }}
{{- if and .models.lock (not (hasKey (fromYaml .models.lock) "models")) }}{{ $wrong = append $wrong "models.lock is no lock file, a YAML with `models:`: give it word for word (--set-file models.lock=models.lock.yaml)." }}{{ end }}
{{- if eq .namespace .upstream }}{{ $wrong = append $wrong (printf "namespace and upstream are both %q: a branch writes a namespace of its own." .namespace) }}{{ end }}
{{- if and .upstream .sensors }}{{ $wrong = append $wrong "sensors is true on a branch (upstream is set): it would answer every new document again; set sensors to false." }}{{ end }}
{{- if .proxy.enabled }}
{{- if not (hasPrefix "https://" .proxy.issuer) }}{{ $wrong = append $wrong (printf "proxy.issuer is %q: name the identity provider, https://…; without the proxy, set proxy.enabled to false and reach the pages by kubectl port-forward." .proxy.issuer) }}{{ end }}
{{- if not .proxy.launchGroup }}{{ $wrong = append $wrong "proxy.launchGroup is empty: everybody who is signed in could launch runs; name the group that may." }}{{ end }}
{{- if not .proxy.secret }}{{ $wrong = append $wrong "proxy.secret is empty: name the Secret with client-secret and cookie-secret." }}{{ end }}
{{- if and .review.enabled (not (has (lower .review.identityHeader) (list "x-forwarded-email" "x-forwarded-user" "x-forwarded-preferred-username"))) }}{{ $wrong = append $wrong (printf "review.identityHeader is %q: the proxy replaces X-Forwarded-Email, X-Forwarded-User and X-Forwarded-Preferred-Username only; any other says what a reader writes into it." .review.identityHeader) }}{{ end }}
{{- $needed := dict "launch" true "view" .viewer.enabled "review" .review.enabled }}
{{- $taken := dict }}
{{- range $page, $host := .proxy.hosts }}
{{- if and (index $needed $page) (not $host) }}{{ $wrong = append $wrong (printf "proxy.hosts.%s is empty: name the host under which people open that page." $page) }}{{ end }}
{{- if and (index $needed $page) $host (hasKey $taken $host) }}{{ $wrong = append $wrong (printf "proxy.hosts.%s and proxy.hosts.%s are both %q: each page has a sign-in of its own, so give it a host of its own." (get $taken $host) $page $host) }}{{ end }}
{{- if index $needed $page }}{{ $_ := set $taken $host $page }}{{ end }}
{{- end }}
{{- if not .network.identityProvider.to }}{{ if .network.enabled }}{{ $wrong = append $wrong "network.identityProvider.to is empty: name where the identity provider is, or nobody can sign in." }}{{ end }}{{ end }}
{{- end }}
{{- if not (regexMatch "@sha256:[0-9a-f]{64}$" .proxy.image) }}{{ $wrong = append $wrong (printf "proxy.image is %q: name it by digest, repository@sha256:…." .proxy.image) }}{{ end }}
{{- if .network.enabled }}
{{- if not .network.kubernetesApi.cidrs }}{{ $wrong = append $wrong "network.kubernetesApi.cidrs is empty: name the addresses of the API server (kubectl get endpoints kubernetes), or no run can be launched." }}{{ end }}
{{- $networks := list }}
{{- range .network.kubernetesApi.cidrs }}{{ $networks = append $networks (list "network.kubernetesApi.cidrs" (dict "ipBlock" (dict "cidr" .))) }}{{ end }}
{{- range $name, $one := .network.egress }}
{{- if not $one.to }}{{ $wrong = append $wrong (printf "network.egress.%s.to is empty, which would mean everywhere: name peers as a NetworkPolicy does." $name) }}{{ end }}
{{- range $one.to }}{{ $networks = append $networks (list (printf "network.egress.%s.to" $name) .) }}{{ end }}
{{- end }}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])" }}
{{- $network := printf "^(%s([.]%s){3}/(3[0-2]|[12]?[0-9])|[0-9a-fA-F:]*:[0-9a-fA-F:.]*/(12[0-8]|1[01][0-9]|[0-9]?[0-9]))$" $octet $octet }}
{{- /* What is written down as one network, and is half of all of them, is everywhere. */}}
{{- range $networks }}
{{- $place := index . 0 }}{{ $peer := index . 1 }}
{{- $cidr := dig "ipBlock" "cidr" "" $peer }}
{{- if and $cidr (not (regexMatch $network $cidr)) }}{{ $wrong = append $wrong (printf "%s has %q, which is no network: write addresses like 10.1.0.0/28, of one machine 10.1.0.4/32." $place $cidr) }}{{ end }}
{{- $short := regexMatch "/[0-7]$" $cidr }}
{{- $chosen := or $peer.ipBlock (dig "namespaceSelector" "matchLabels" dict $peer) (dig "podSelector" "matchLabels" dict $peer) }}
{{- /* Everything but one, or whatever has the label that all namespaces have, is everywhere, too. */}}
{{- range concat (dig "namespaceSelector" "matchExpressions" list $peer) (dig "podSelector" "matchExpressions" list $peer) }}
{{- $chosen = or $chosen (eq .operator "In") (and (eq .operator "Exists") (ne .key "kubernetes.io/metadata.name")) }}
{{- end }}
{{- if or $short (not $chosen) }}{{ $wrong = append $wrong (printf "%s names everywhere (%s): documents could leave by it; name one network." $place (toJson $peer)) }}{{ end }}
{{- end }}
{{- end }}
{{- if and .training.enabled (not (regexMatch "@sha256:[0-9a-f]{64}$" .training.image)) }}{{ $wrong = append $wrong (printf "training.image is %q: name it by digest, repository@sha256:…." .training.image) }}{{ end }}
{{- if and .capacity.enabled (gt (int .capacity.productionGpus) (int .capacity.gpus)) }}{{ $wrong = append $wrong (printf "capacity.productionGpus is %v of %v: production cannot be guaranteed more GPUs than there are." .capacity.productionGpus .capacity.gpus) }}{{ end }}
{{- if .capacity.enabled }}
{{- range .capacity.developmentNamespaces }}
{{- if has . (list $.Values.capacity.productionNamespace $.Release.Namespace) }}{{ $wrong = append $wrong (printf "capacity.developmentNamespaces has %q, which is production's or the release's own: name namespaces for models of branches." .) }}{{ end }}
{{- end }}
{{- end }}
{{- if and .quota.enabled (or (not .quota.cpu) (not .quota.memory) (not .quota.pods)) }}{{ $wrong = append $wrong "quota is enabled without cpu, memory and pods: name all three." }}{{ end }}
{{- if and (eq .state.accessMode "ReadWriteOnce") (ne .deployment "single-node") }}{{ $wrong = append $wrong "state.accessMode is ReadWriteOnce: pods of other nodes could not mount it; use a class with ReadWriteMany, or the profile single-node." }}{{ end }}
{{- if and .encryption.enabled (not .encryption.stateVolume) }}{{ $wrong = append $wrong "encryption.enabled is true and encryption.stateVolume is not: journals and cards on the state volume hold text; name a storage class that encrypts in state.storageClass, and set encryption.stateVolume to true." }}{{ end }}
{{- range $name, $one := dict "webserver" .webserver "viewer" .viewer "daemon" .daemon "codeLocation" .codeLocation "review" .review "serve" .serve "runs" .runs "proxy" .proxy }}
{{- range $kind, $asked := $one.resources.requests }}
{{- $most := get ($one.resources.limits | default dict) $kind }}
{{- if and $most (gt (include "lp.amount" $asked | float64) (include "lp.amount" $most | float64)) }}{{ $wrong = append $wrong (printf "%s.resources asks for %v of %s and is limited to %v: no such pod is taken." $name $asked $kind $most) }}{{ end }}
{{- end }}
{{- end }}
{{- range $name, $one := dict "viewer" .viewer "serve" .serve }}
{{- if and $one.enabled (gt (int $one.replicas) (int $one.maxReplicas)) }}{{ $wrong = append $wrong (printf "%s.replicas is %v and %s.maxReplicas %v: there cannot be more at rest than at most." $name $one.replicas $name $one.maxReplicas) }}{{ end }}
{{- end }}
{{- range $name, $place := dict "models_lock" "models.lock" "ui_url" "proxy.hosts.launch" "review_url" "proxy.hosts.review" }}
{{- $set := ternary $.Values.models.lock (and $.Values.proxy.enabled (or (eq $name "ui_url") $.Values.review.enabled)) (eq $name "models_lock") }}
{{- if and (hasKey $.Values.settings $name) $set }}{{ $wrong = append $wrong (printf "settings.%s and %s both say it: leave one of them out." $name $place) }}{{ end }}
{{- end }}
{{- if and .externalSecrets.enabled (not .externalSecrets.store.name) }}{{ $wrong = append $wrong "externalSecrets.store.name is empty: name the SecretStore or ClusterSecretStore that the secrets come from." }}{{ end }}
{{- if and .serve.enabled (not .serve.callersSecret) }}{{ $wrong = append $wrong "serve.callersSecret is empty: name the Secret with the file of callers, or nobody could ask." }}{{ end }}
{{- if and .serve.enabled (eq .serve.autoscaling "keda") (not .serve.kedaQuery) }}{{ $wrong = append $wrong "serve.kedaQuery is empty: KEDA needs the PromQL that counts requests." }}{{ end }}
{{- $seen := dict }}
{{- range $entry, $objects := .models.objects }}
{{- range $objects }}
{{- $key := printf "%s %s of namespace %s" .kind .metadata.name (.metadata.namespace | default $.Release.Namespace) }}
{{- $former := get $seen $key | default (list $entry (toJson .)) }}
{{- if ne (index $former 1) (toJson .) }}{{ $wrong = append $wrong (printf "models.objects.%s and models.objects.%s have each another %s: rename an entry, or render both anew with the same settings." (index $former 0) $entry $key) }}{{ end }}
{{- $_ := set $seen $key $former }}
{{- range regexFindAll "\"image\":\"[^\"]+\"" (toJson .) -1 }}
{{- if not (contains "@sha256:" .) }}{{ $wrong = append $wrong (printf "models.objects.%s has an image without digest (%s): render it anew, `llm-platform nim render %s --values FILE`." $entry . $entry) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if $wrong }}{{ fail (printf "\nThese values cannot be installed:\n- %s" (join "\n- " $wrong)) }}{{ end }}
{{- end }}

{{/* How much a quantity of Kubernetes is. */}}
{{- define "lp.amount" -}}
{{- $text := toString . }}
{{- $number := regexFind "^[0-9.]+" $text }}
{{- $units := dict "" 1 "m" 0.001 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 }}
{{- mulf $number (get $units (trimPrefix $number $text)) }}
{{- end }}

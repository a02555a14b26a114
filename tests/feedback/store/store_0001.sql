BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE annotator (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	role TEXT NOT NULL, 
	token_hash TEXT, 
	CONSTRAINT pk_annotator PRIMARY KEY (id), 
	CONSTRAINT ck_annotator_role CHECK (role IN ('annotator', 'adjudicator', 'admin', 'anonymous', 'simulated')), 
	CONSTRAINT uq_annotator_name UNIQUE (name), 
	CONSTRAINT uq_annotator_token_hash UNIQUE (token_hash)
);
INSERT INTO "annotator" VALUES(1,'Ada','annotator','2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b');
INSERT INTO "annotator" VALUES(2,'Bo','adjudicator',NULL);
CREATE TABLE derived_ranking (
	id INTEGER NOT NULL, 
	prompt_id INTEGER NOT NULL, 
	ranking TEXT NOT NULL, 
	method TEXT NOT NULL, 
	settings TEXT NOT NULL, 
	judgements TEXT NOT NULL, 
	CONSTRAINT pk_derived_ranking PRIMARY KEY (id), 
	CONSTRAINT fk_derived_ranking_prompt_id FOREIGN KEY(prompt_id) REFERENCES prompt (id)
);
INSERT INTO "derived_ranking" VALUES(1,1,'[[1]]','mean rating','{"axis":"fluent"}','[4]');
CREATE TABLE event (
	sequence INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	payload TEXT NOT NULL, 
	made INTEGER NOT NULL, 
	previous TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	CONSTRAINT pk_event PRIMARY KEY (sequence)
);
INSERT INTO "event" VALUES(1,'prompt','{"digest":"083430aa32b2ca3be6b0bda0ce257357a0ef309e0b012afd11400ab7d83f97ae","first":1,"last":1,"rows":1,"table":"prompt"}',1700000000,'0000000000000000000000000000000000000000000000000000000000000000','9ad09d645aea8427882f5f363f8b16f2d94f1948b25f1c56fa9860653acdb9e9');
INSERT INTO "event" VALUES(2,'response','{"digest":"97bbadd559aa37db2570b1b260560a0d2a1dfb1562f6f0cb253b024e96f54e5b","first":1,"last":1,"rows":1,"table":"response"}',1700000000,'9ad09d645aea8427882f5f363f8b16f2d94f1948b25f1c56fa9860653acdb9e9','3826aeb5dd0e44a2d52e457a0340ca8766c8b47641c97fec096204931d7b2686');
INSERT INTO "event" VALUES(3,'response','{"digest":"75cbd72a75ecddcec4645af2d7f0fa3fe48dbe75f67bdabaef8c4c8471739a09","first":2,"last":2,"rows":1,"table":"response"}',1700000000,'3826aeb5dd0e44a2d52e457a0340ca8766c8b47641c97fec096204931d7b2686','ba719f0b573589d5e554f820aae3fefde6982dbbad27722afc375273d625a593');
INSERT INTO "event" VALUES(4,'response','{"digest":"4a228586be58a5099c2cdb24e4c3015c9845d81920ba714473d3d1c39dcb62ff","first":3,"last":3,"rows":1,"table":"response"}',1700000000,'ba719f0b573589d5e554f820aae3fefde6982dbbad27722afc375273d625a593','3b3157c65873d2a7978369221a23247ec7e029f35dd5ae4d348cde15d983cc20');
INSERT INTO "event" VALUES(5,'annotator','{"digest":"4e2c8d2bbdfb874e37260baeb231003d2d8e350571629036822d09759cacfbe2","first":1,"last":1,"rows":1,"table":"annotator"}',1700000000,'3b3157c65873d2a7978369221a23247ec7e029f35dd5ae4d348cde15d983cc20','fecb326ad9870a94068ce5399f1b796f95864cad035525c74795b0af8c62edf0');
INSERT INTO "event" VALUES(6,'annotator','{"digest":"c27c03bf1c7b170a19d8dd8bbd43a6ac7383ef030196cbb1c534027c96d7fd2a","first":2,"last":2,"rows":1,"table":"annotator"}',1700000000,'fecb326ad9870a94068ce5399f1b796f95864cad035525c74795b0af8c62edf0','f16a3907faa1ec402e5f1e6ec8df8509037051e923dbe9a93ad0ca7a7ccecc53');
INSERT INTO "event" VALUES(7,'task','{"digest":"9427411063f3d794063bf66223813e779f718669d64119f9ac0e602884b030c6","first":1,"last":1,"rows":1,"table":"task"}',1700000000,'f16a3907faa1ec402e5f1e6ec8df8509037051e923dbe9a93ad0ca7a7ccecc53','709aa21b8c59cb97e2a3966566f99d91d679bf045b9535b4f4e215a92af9b97c');
INSERT INTO "event" VALUES(8,'task','{"digest":"f86aae9b4d6f37c2f7b56940f0e118799eed58b8d5569dd85e49568184e5a65c","first":2,"last":2,"rows":1,"table":"task"}',1700000000,'709aa21b8c59cb97e2a3966566f99d91d679bf045b9535b4f4e215a92af9b97c','0a19aebb5157484b399094d439d14ab02bd43f907fcd9c1c067516d072d11308');
INSERT INTO "event" VALUES(9,'judgement','{"digest":"7074ece891d7d279c1ae3503baedcc1a8b5cebfbf05e0056bd58fbbc05fd7a8e","first":1,"last":1,"rows":1,"table":"judgement"}',1700000000,'0a19aebb5157484b399094d439d14ab02bd43f907fcd9c1c067516d072d11308','d7026afc47fdbe1d609c5ce7a863da8ddae5b038c24103c60f9c1f6ed53dd10a');
INSERT INTO "event" VALUES(10,'judgement','{"digest":"3a5d15d30244ba2c3b40d0bf9e18038f88614a47922ff635c00b44163a3b0f76","first":2,"last":2,"rows":1,"table":"judgement"}',1700000000,'d7026afc47fdbe1d609c5ce7a863da8ddae5b038c24103c60f9c1f6ed53dd10a','35517ef420ede95613aa952684e7febac3693cff56cfc056c6cd1b11a2850aac');
INSERT INTO "event" VALUES(11,'judgement','{"digest":"e7ed1e57d79508613ab26ed417ed1171f39de4a3a176ebd5230cbee653b8ccd0","first":3,"last":3,"rows":1,"table":"judgement"}',1700000000,'35517ef420ede95613aa952684e7febac3693cff56cfc056c6cd1b11a2850aac','209172c458d9c76d8a337bff99970ca55c567d7ad686d57cd29ead69b8e9c972');
INSERT INTO "event" VALUES(12,'judgement','{"digest":"91257a86d84e699da04709f222084a7e3fca3ab1a91fa04900d5e99f95b17a8a","first":4,"last":4,"rows":1,"table":"judgement"}',1700000000,'209172c458d9c76d8a337bff99970ca55c567d7ad686d57cd29ead69b8e9c972','1ee71fb11e0a729836c28f89db34b0a25c81065ecf8b851154adf0855f3a903d');
INSERT INTO "event" VALUES(13,'judgement','{"digest":"700da88446cc3551bd04c1f7aa5cdf128498f8af31123a4b7360c2efb08fc73b","first":5,"last":5,"rows":1,"table":"judgement"}',1700000000,'1ee71fb11e0a729836c28f89db34b0a25c81065ecf8b851154adf0855f3a903d','21ff8ea1e9a74f016c9087892f1d242121d417745b66889157168f00908b0ef2');
INSERT INTO "event" VALUES(14,'derivation of rankings','{"digest":"38fd33264aeabd977db89707459c6dbf4f5c6bb41918a0e9a54eafcb42ec0aa6","first":1,"last":1,"rows":1,"table":"derived_ranking"}',1700000000,'21ff8ea1e9a74f016c9087892f1d242121d417745b66889157168f00908b0ef2','6c018bec652b428ed122d1406438366e396cb1e75c8b47a0d1e0ef524bc76129');
CREATE TABLE judgement (
	id INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	prompt_id INTEGER NOT NULL, 
	task_id INTEGER, 
	annotator_id INTEGER NOT NULL, 
	response_id INTEGER, 
	ranking TEXT, 
	strength DOUBLE, 
	axes TEXT, 
	edit TEXT, 
	flags TEXT, 
	note TEXT, 
	milliseconds INTEGER, 
	client_id TEXT NOT NULL, 
	supersedes INTEGER, 
	made INTEGER NOT NULL, 
	CONSTRAINT pk_judgement PRIMARY KEY (id), 
	CONSTRAINT ck_judgement_kind CHECK (kind IN ('rating', 'ranking', 'pair')), 
	CONSTRAINT fk_judgement_prompt_id FOREIGN KEY(prompt_id) REFERENCES prompt (id), 
	CONSTRAINT fk_judgement_task_id FOREIGN KEY(task_id) REFERENCES task (id), 
	CONSTRAINT fk_judgement_annotator_id FOREIGN KEY(annotator_id) REFERENCES annotator (id), 
	CONSTRAINT fk_judgement_response_id FOREIGN KEY(response_id) REFERENCES response (id), 
	CONSTRAINT fk_judgement_supersedes FOREIGN KEY(supersedes) REFERENCES judgement (id), 
	CONSTRAINT uq_judgement_client_id UNIQUE (client_id), 
	CONSTRAINT uq_judgement_supersedes UNIQUE (supersedes)
);
INSERT INTO "judgement" VALUES(1,'ranking',1,1,1,NULL,'[[1],[2,3]]',NULL,NULL,NULL,NULL,NULL,900,'1',NULL,1700000000);
INSERT INTO "judgement" VALUES(2,'ranking',1,1,1,NULL,'[[2],[1]]',NULL,NULL,'一二',NULL,'thought again',NULL,'2',1,1700000000);
INSERT INTO "judgement" VALUES(3,'pair',1,2,2,NULL,'[[2],[1]]',2.0,NULL,NULL,NULL,NULL,NULL,'3',NULL,1700000000);
INSERT INTO "judgement" VALUES(4,'rating',1,NULL,2,1,NULL,NULL,'{"fluent":3.0}',NULL,NULL,NULL,NULL,'4',NULL,1700000000);
INSERT INTO "judgement" VALUES(5,'ranking',1,NULL,2,NULL,NULL,NULL,NULL,NULL,'["skip"]',NULL,NULL,'5',NULL,1700000000);
CREATE TABLE prompt (
	id INTEGER NOT NULL, 
	conversation TEXT NOT NULL, 
	source TEXT NOT NULL, 
	split TEXT NOT NULL, 
	CONSTRAINT pk_prompt PRIMARY KEY (id)
);
INSERT INTO "prompt" VALUES(1,'[{"content":"写一行影评。","role":"user"}]','films','train');
CREATE TABLE response (
	id INTEGER NOT NULL, 
	prompt_id INTEGER NOT NULL, 
	model TEXT, 
	sampling TEXT, 
	seed INTEGER, 
	text TEXT NOT NULL, 
	origin TEXT, 
	CONSTRAINT pk_response PRIMARY KEY (id), 
	CONSTRAINT fk_response_prompt_id FOREIGN KEY(prompt_id) REFERENCES prompt (id)
);
INSERT INTO "response" VALUES(1,1,'0123','{"round":1}',0,'一',NULL);
INSERT INTO "response" VALUES(2,1,'0123','{"round":1}',1,'二',NULL);
INSERT INTO "response" VALUES(3,1,'0123','{"round":1}',2,'三',NULL);
CREATE TABLE task (
	id INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	prompt_id INTEGER NOT NULL, 
	responses TEXT NOT NULL, 
	shown TEXT NOT NULL, 
	priority DOUBLE NOT NULL, 
	leased_to INTEGER, 
	leased_until INTEGER, 
	CONSTRAINT pk_task PRIMARY KEY (id), 
	CONSTRAINT ck_task_kind CHECK (kind IN ('rating', 'ranking', 'pair')), 
	CONSTRAINT fk_task_prompt_id FOREIGN KEY(prompt_id) REFERENCES prompt (id), 
	CONSTRAINT fk_task_leased_to FOREIGN KEY(leased_to) REFERENCES annotator (id)
);
INSERT INTO "task" VALUES(1,'ranking',1,'[1,2,3]','[3,1,2]',0.5,NULL,NULL);
INSERT INTO "task" VALUES(2,'pair',1,'[1,2]','[1,2]',0.0,1,1700000600);
CREATE INDEX ix_prompt_split_source ON prompt (split, source);
CREATE INDEX ix_response_prompt_id ON response (prompt_id);
CREATE INDEX ix_task_prompt_id ON task (prompt_id);
CREATE INDEX ix_judgement_prompt_id ON judgement (prompt_id);
CREATE INDEX ix_judgement_response_id ON judgement (response_id);
CREATE INDEX ix_derived_ranking_prompt_id ON derived_ranking (prompt_id);
CREATE TRIGGER prompt_no_update BEFORE UPDATE ON prompt BEGIN SELECT RAISE(ABORT, 'prompt is append-only'); END;
CREATE TRIGGER prompt_no_delete BEFORE DELETE ON prompt BEGIN SELECT RAISE(ABORT, 'prompt is append-only'); END;
CREATE TRIGGER response_no_update BEFORE UPDATE ON response BEGIN SELECT RAISE(ABORT, 'response is append-only'); END;
CREATE TRIGGER response_no_delete BEFORE DELETE ON response BEGIN SELECT RAISE(ABORT, 'response is append-only'); END;
CREATE TRIGGER judgement_no_update BEFORE UPDATE ON judgement BEGIN SELECT RAISE(ABORT, 'judgement is append-only'); END;
CREATE TRIGGER judgement_no_delete BEFORE DELETE ON judgement BEGIN SELECT RAISE(ABORT, 'judgement is append-only'); END;
CREATE TRIGGER derived_ranking_no_update BEFORE UPDATE ON derived_ranking BEGIN SELECT RAISE(ABORT, 'derived_ranking is append-only'); END;
CREATE TRIGGER derived_ranking_no_delete BEFORE DELETE ON derived_ranking BEGIN SELECT RAISE(ABORT, 'derived_ranking is append-only'); END;
CREATE TRIGGER event_no_update BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'event is append-only'); END;
CREATE TRIGGER event_no_delete BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'event is append-only'); END;
COMMIT;
